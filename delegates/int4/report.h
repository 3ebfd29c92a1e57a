// What the delegate says about the nodes that it took and those that it declined.
#ifndef TFQ_DELEGATES_INT4_REPORT_H_
#define TFQ_DELEGATES_INT4_REPORT_H_

#include <cstdint>
#include <string>
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

// {"delegated", "total", "declined": [{"subgraph", "node", "op", "reason"}], "taken": [{..., "kernel"}]}
std::string ReportJson(const std::vector<NodeReport>& nodes);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_REPORT_H_
