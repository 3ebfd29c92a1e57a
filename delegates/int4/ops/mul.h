// What products are computed with.
#ifndef TFQ_DELEGATES_INT4_OPS_MUL_H_
#define TFQ_DELEGATES_INT4_OPS_MUL_H_

#include <cstdint>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

MulParams MakeMulParams(const NodeView& view);

// The input that is a constant of one value, or -1. Such a product is a table (table.cc).
int32_t ConstantFactor(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_MUL_H_
