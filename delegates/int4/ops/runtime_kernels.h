// What the kernels that `match` names do beside linear layers, measured (docs/arithmetic.md).
#ifndef TFQ_DELEGATES_INT4_OPS_RUNTIME_KERNELS_H_
#define TFQ_DELEGATES_INT4_OPS_RUNTIME_KERNELS_H_

#include <cstdint>

#include "delegates/int4/options.h"

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

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_RUNTIME_KERNELS_H_
