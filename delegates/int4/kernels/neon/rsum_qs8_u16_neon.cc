// Sums over rows, sixteen channels at a time, in 16 bits for as many rows as fit.
#include <arm_neon.h>

#include <algorithm>

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kRowsIn16Bits = 256;  // 256 * -128 = -2^15

void AddTo(int32_t* sums, int16x8_t words) {
  vst1q_s32(sums, vaddw_s16(vld1q_s32(sums), vget_low_s16(words)));
  vst1q_s32(sums + 4, vaddw_high_s16(vld1q_s32(sums + 4), words));
}

void Run(const int8_t* const* rows, int32_t count, int32_t channels, int32_t* sums) {
  int32_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    for (int32_t first = 0; first < count; first += kRowsIn16Bits) {
      const int32_t last = std::min(count, first + kRowsIn16Bits);
      int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);
      for (int32_t row = first; row < last; ++row) {
        const int8x16_t bytes = vld1q_s8(rows[row] + c);
        low = vaddw_s8(low, vget_low_s8(bytes));
        high = vaddw_high_s8(high, bytes);
      }
      AddTo(sums + c, low);
      AddTo(sums + c + 8, high);
    }
  }
  for (; c < channels; ++c) {
    for (int32_t row = 0; row < count; ++row) sums[c] += rows[row][c];
  }
}

}  // namespace

const SumRowsKernel rsum_qs8_u16_neon = {"rsum_qs8_u16_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
