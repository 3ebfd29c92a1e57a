// What has to hold of a node, by kind. Each function returns why the node is declined, or nothing.
#ifndef TFQ_DELEGATES_INT4_CHECKS_H_
#define TFQ_DELEGATES_INT4_CHECKS_H_

#include <string>

#include "delegates/int4/support.h"

namespace tfq::int4 {

// Convolution, depthwise convolution and dense layer.
std::string CheckLinear(const NodeView& view);

// Operators around them, on int8 tensors of one scale each. Where XNNPACK is matched, they are declined outside what it
// takes and what the built-in kernel does differently.
std::string CheckBatchMatmul(const NodeView& view);
std::string CheckSquaredDifference(const NodeView& view);
std::string CheckAdd(const NodeView& view);
std::string CheckSub(const NodeView& view);
std::string CheckMul(const NodeView& view);
std::string CheckPool(const NodeView& view);
std::string CheckMean(const NodeView& view);
std::string CheckPad(const NodeView& view);
std::string CheckConcatenation(const NodeView& view);
std::string CheckReshape(const NodeView& view);
std::string CheckTranspose(const NodeView& view);
std::string CheckSoftmax(const NodeView& view);
std::string CheckRelu(const NodeView& view);
std::string CheckHardSwish(const NodeView& view);
std::string CheckLogistic(const NodeView& view);
std::string CheckRsqrt(const NodeView& view);
std::string CheckQuantize(const NodeView& view);

// Of weights; whether it can go is decided when its readers are known.
std::string CheckDequantize(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_CHECKS_H_
