// What has to hold of a node, by kind. Each function returns why the node is declined, or nothing.
#ifndef TFQ_DELEGATES_INT4_CHECKS_H_
#define TFQ_DELEGATES_INT4_CHECKS_H_

#include <string>

#include "delegates/int4/support.h"

namespace tfq::int4 {

// Convolution, depthwise convolution and dense layer.
std::string CheckLinear(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_CHECKS_H_
