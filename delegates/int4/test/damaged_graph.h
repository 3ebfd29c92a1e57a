// What a damaged or hostile model can hand to the delegate, made from a string of bytes.
#ifndef TFQ_DELEGATES_INT4_TEST_DAMAGED_GRAPH_H_
#define TFQ_DELEGATES_INT4_TEST_DAMAGED_GRAPH_H_

#include <cstddef>
#include <cstdint>

namespace tfq::int4 {

// Builds a small network, damages its nodes, parameters, tensors and quantization as `data` says, gives it to a
// delegate, and prepares, runs, resizes and runs it again. Nothing is expected but that the delegate declines, reports
// an error or computes within the memory that it was given: memory of exactly the size asked for lies around it, and
// sanitizers look on.
void RunDamagedGraph(const uint8_t* data, size_t size);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_DAMAGED_GRAPH_H_
