// Maxima over rows, sixteen channels at a time.
#include <arm_neon.h>

#include <algorithm>

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const int8_t* const* rows, int32_t count, int32_t channels, int8_t min, int8_t max, int8_t* out) {
  int32_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    int8x16_t largest = vdupq_n_s8(min);
    for (int32_t row = 0; row < count; ++row) largest = vmaxq_s8(largest, vld1q_s8(rows[row] + c));
    vst1q_s8(out + c, vminq_s8(largest, vdupq_n_s8(max)));
  }
  for (; c < channels; ++c) {
    int8_t largest = min;
    for (int32_t row = 0; row < count; ++row) largest = std::max(largest, rows[row][c]);
    out[c] = std::min(largest, max);
  }
}

}  // namespace

const MaxRowsKernel rmax_qs8_u16_neon = {"rmax_qs8_u16_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
