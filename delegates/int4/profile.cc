#include "delegates/int4/profile.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <numeric>

#include "delegates/int4/files.h"
#include "delegates/int4/json.h"
#include "delegates/int4/report.h"

namespace tfq::int4 {
namespace {

std::string Microseconds(double nanoseconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f", nanoseconds / 1e3);
  return text;
}

double Median(std::vector<int64_t> times) {
  std::sort(times.begin(), times.end());
  const size_t half = times.size() / 2;
  const double upper = static_cast<double>(times[half]);
  return times.size() % 2 == 1 ? upper : (upper + static_cast<double>(times[half - 1])) / 2;
}

std::string JsonShapes(const Shapes& shapes) {
  std::vector<std::string> list;
  for (const Dims& dims : shapes) {
    std::vector<std::string> sizes;
    for (const int32_t size : dims) sizes.push_back(std::to_string(size));
    list.push_back(JsonList(sizes));
  }
  return JsonList(list);
}

std::string JsonNode(const NodeProfile& node) {
  const std::vector<int64_t>& times = node.times_ns;
  std::vector<std::string> all;
  for (const int64_t time : times) all.push_back(Microseconds(static_cast<double>(time)));
  const int64_t total = std::accumulate(times.begin(), times.end(), int64_t{0});
  return "{\"node\": " + std::to_string(node.node) + ", \"op\": " + JsonString(node.op) +
         ", \"kernel\": " + JsonString(node.kernel) + ", \"inputs\": " + JsonShapes(node.inputs) +
         ", \"outputs\": " + JsonShapes(node.outputs) + ", \"calls\": " + std::to_string(times.size()) +
         ", \"total_us\": " + Microseconds(static_cast<double>(total)) +
         ", \"min_us\": " + Microseconds(static_cast<double>(*std::min_element(times.begin(), times.end()))) +
         ", \"median_us\": " + Microseconds(Median(times)) + ", \"times_us\": " + JsonList(all) + "}";
}

}  // namespace

std::string ProfileJson(const std::vector<NodeProfile>& nodes) {
  std::vector<std::string> list;
  for (const NodeProfile& node : nodes) {
    if (!node.times_ns.empty()) list.push_back(JsonNode(node));
  }
  return "{\n  \"nodes\": " + JsonList(list, 4) + "\n}\n";
}

void Profile::Add(std::vector<NodeProfile> nodes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::move(nodes.begin(), nodes.end(), std::back_inserter(nodes_));
  const std::string problem = WriteFile(path_, ProfileJson(nodes_));
  if (!problem.empty()) Say("option profile: " + problem);
}

}  // namespace tfq::int4
