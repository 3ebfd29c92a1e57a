// What the kernels that `match` names do beside linear layers, measured (docs/arithmetic.md).
#ifndef TFQ_DELEGATES_INT4_OPS_RUNTIME_KERNELS_H_
#define TFQ_DELEGATES_INT4_OPS_RUNTIME_KERNELS_H_

#include <cstdint>

#include "delegates/int4/options.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// The runtime's vector loops take whole blocks of this many values, and round otherwise in what is left.
constexpr int64_t kVectorBlock = 16;

// 2.14 has vector loops on arm64 alone.
constexpr bool HasVectorLoops([[maybe_unused]] Match match) {
#if defined(__aarch64__)
  return true;
#else
  return match != Match::kTfLite214;
#endif
}

// How many of `count` values a vector loop takes.
constexpr int64_t VectorPart(Match match, int64_t count) {
  return HasVectorLoops(match) ? count / kVectorBlock * kVectorBlock : 0;
}

// The scales of both factors over that of their product, as the runtimes compute it.
float ProductRatio(const NodeView& view);

// Whether XNNPACK is matched and takes this ADD, SUB or MUL: it leaves other ratios of scales to the built-in kernels.
bool XnnpackRuns(const NodeView& view);

// XNNPACK multiplies both inputs of a sum or difference by integers of 21 bits at most and shifts the result once.
struct LinearTerms {
  int32_t a;
  int32_t b;
  int32_t right;
};
LinearTerms XnnpackTerms(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_RUNTIME_KERNELS_H_
