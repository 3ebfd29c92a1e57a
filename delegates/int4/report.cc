#include "delegates/int4/report.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "delegates/int4/files.h"
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

MemoryReport& MemoryReport::operator+=(const MemoryReport& other) {
  packed += other.packed;
  arena += other.arena;
  scratch += other.scratch;
  return *this;
}

std::string ReportJson(const std::vector<NodeReport>& nodes, const MemoryReport& memory) {
  return "{\n  \"delegated\": " + std::to_string(CountTaken(nodes)) +
         ",\n  \"total\": " + std::to_string(nodes.size()) + ",\n  \"packed_bytes\": " + std::to_string(memory.packed) +
         ",\n  \"arena_bytes\": " + std::to_string(memory.arena) +
         ",\n  \"scratch_bytes\": " + std::to_string(memory.scratch) + ",\n  \"declined\": " + JsonNodes(nodes, false) +
         ",\n  \"taken\": " + JsonNodes(nodes, true) + "\n}\n";
}

ReportFile::Graph& ReportFile::Of(const void* graph) {
  for (Graph& known : graphs_) {
    if (known.graph == graph) return known;
  }
  graphs_.push_back({graph, {}, {}});
  return graphs_.back();
}

void ReportFile::SetNodes(const void* graph, std::vector<NodeReport> nodes) {
  if (path_.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  Graph& entry = Of(graph);
  entry.nodes = std::move(nodes);
  entry.partitions.clear();
  Write();
}

void ReportFile::SetMemory(const void* graph, const void* partition, const MemoryReport& memory) {
  if (path_.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  Of(graph).partitions[partition] = memory;
  Write();
}

void ReportFile::Write() const {
  std::vector<NodeReport> nodes;
  MemoryReport memory;
  for (size_t i = 0; i < graphs_.size(); ++i) {
    for (NodeReport node : graphs_[i].nodes) {
      node.subgraph = static_cast<int32_t>(i);
      nodes.push_back(std::move(node));
    }
    for (const auto& [partition, of_partition] : graphs_[i].partitions) memory += of_partition;
  }
  const std::string problem = WriteFile(path_, ReportJson(nodes, memory));
  if (!problem.empty()) Say("option report: " + problem);
}

}  // namespace tfq::int4
