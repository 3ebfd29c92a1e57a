// What the delegate says about the nodes that it took and those that it declined.
#ifndef TFQ_DELEGATES_INT4_REPORT_H_
#define TFQ_DELEGATES_INT4_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tfq::int4 {

// A line on stderr that names the delegate.
void Say(const std::string& line);

struct NodeReport {
  int32_t subgraph;
  int32_t node;
  std::string op;
  bool taken;
  std::string detail;  // the kernel's name, or the reason
};

// "took 12 of 14 nodes; declined: SOFTMAX (op not supported) x1", equal reasons counted together.
std::string Summary(const std::vector<NodeReport>& nodes);

// Memory of a partition, in bytes.
struct MemoryReport {
  size_t packed = 0;   // weights
  size_t arena = 0;    // tensors between its nodes
  size_t scratch = 0;  // working memory of all threads

  MemoryReport& operator+=(const MemoryReport& other);
};

// {"delegated", "total", "packed_bytes", "arena_bytes", "scratch_bytes", "declined": [{"subgraph", "node", "op",
// "reason"}], "taken": [{..., "kernel"}]}
std::string ReportJson(const std::vector<NodeReport>& nodes, const MemoryReport& memory);

// The file of option `report`, for all graphs of a delegate; written anew with everything that becomes known. Safe to
// use from several threads.
class ReportFile {
 public:
  // An empty path: no report is wanted.
  explicit ReportFile(std::string path) : path_(std::move(path)) {}

  // A runtime asks once for each subgraph, and again when it applies delegates anew.
  void SetNodes(const void* graph, std::vector<NodeReport> nodes);
  void SetMemory(const void* graph, const void* partition, const MemoryReport& memory);

 private:
  struct Graph {
    const void* graph;
    std::vector<NodeReport> nodes;
    std::map<const void*, MemoryReport> partitions;
  };

  Graph& Of(const void* graph);
  void Write() const;

  const std::string path_;
  std::mutex mutex_;
  std::vector<Graph> graphs_;  // in the order in which they were seen; guarded by mutex_
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_REPORT_H_
