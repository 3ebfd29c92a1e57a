// How products broadcast.
#ifndef TFQ_DELEGATES_INT4_OPS_MUL_H_
#define TFQ_DELEGATES_INT4_OPS_MUL_H_

#include <cstdint>
#include <string>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

MulParams MakeMulParams(const NodeView& view);

// The values of factor `once` (0 or 1; -1: of neither) lie there once for all pixels of an image.
struct MulPlan {
  int32_t once = -1;
  int64_t images = 0;
  int64_t pixels = 0;
  int64_t channels = 0;
};

// The input that is a constant of one value, or -1. Such a product is a table (table.cc).
int32_t ConstantFactor(const NodeView& view);

// Returns why a product of these shapes is not taken, or nothing.
std::string PlanMul(const Dims& a, const Dims& b, MulPlan* plan);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_MUL_H_
