#include "delegates/int4/report.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "delegates/int4/json.h"

namespace tfq::int4 {
namespace {

// Different reasons in one line; the report and verbose=true give all.
constexpr size_t kMaxReasons = 8;

std::string JsonNodes(const std::vector<NodeReport>& nodes, bool taken) {
  std::vector<std::string> list;
  for (const NodeReport& node : nodes) {
    if (node.taken != taken) continue;
    list.push_back("{\"subgraph\": " + std::to_string(node.subgraph) + ", \"node\": " + std::to_string(node.node) +
                   ", \"op\": " + JsonString(node.op) + (taken ? ", \"kernel\": " : ", \"reason\": ") +
                   JsonString(node.detail) + "}");
  }
  return JsonList(list, 4);
}

size_t CountTaken(const std::vector<NodeReport>& nodes) {
  return static_cast<size_t>(std::count_if(nodes.begin(), nodes.end(), [](const NodeReport& n) { return n.taken; }));
}

}  // namespace

void Say(const std::string& line) { std::fprintf(stderr, "tfq int4: %s\n", line.c_str()); }

std::string Summary(const std::vector<NodeReport>& nodes) {
  std::vector<std::pair<std::string, int32_t>> reasons;
  for (const NodeReport& node : nodes) {
    if (node.taken) continue;
    const std::string reason = node.op + " (" + node.detail + ")";
    const auto known = std::find_if(reasons.begin(), reasons.end(), [&](const auto& r) { return r.first == reason; });
    if (known == reasons.end()) {
      reasons.emplace_back(reason, 1);
    } else {
      ++known->second;
    }
  }
  std::string text = "took " + std::to_string(CountTaken(nodes)) + " of " + std::to_string(nodes.size()) + " nodes";
  for (size_t i = 0; i < std::min(reasons.size(), kMaxReasons); ++i) {
    text += (i == 0 ? "; declined: " : ", ") + reasons[i].first + " x" + std::to_string(reasons[i].second);
  }
  if (reasons.size() > kMaxReasons) {
    text += ", and " + std::to_string(reasons.size() - kMaxReasons) + " more reasons (verbose=true lists every node)";
  }
  return text;
}

std::string ReportJson(const std::vector<NodeReport>& nodes) {
  return "{\n  \"delegated\": " + std::to_string(CountTaken(nodes)) +
         ",\n  \"total\": " + std::to_string(nodes.size()) + ",\n  \"declined\": " + JsonNodes(nodes, false) +
         ",\n  \"taken\": " + JsonNodes(nodes, true) + "\n}\n";
}

}  // namespace tfq::int4
