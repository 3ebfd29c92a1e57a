// Weight-only layers: a DEQUANTIZE makes floating-point weights of a constant, and a layer reads them. The delegate's
// layer reads the constant, and the DEQUANTIZE never runs.
#ifndef TFQ_DELEGATES_INT4_DEQUANTIZED_H_
#define TFQ_DELEGATES_INT4_DEQUANTIZED_H_

#include <cstdint>
#include <vector>

#include "delegates/int4/abi/tflite.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// What a DEQUANTIZE ahead of `reader` makes `tensor` of; empty when none does.
TensorView DequantizedFrom(abi::Context& context, const abi::Node& reader, int32_t tensor);

// Whether a DEQUANTIZE that writes `tensor` can go: nodes of the plan read it as weights of `taken` layers and as
// nothing else, and it is no output of the graph.
bool ServesOnlyAsWeights(abi::Context& context, const std::vector<int32_t>& plan, const std::vector<NodeView>& taken,
                         int32_t tensor);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_DEQUANTIZED_H_
