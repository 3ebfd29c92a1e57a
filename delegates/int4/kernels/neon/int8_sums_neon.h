// Sums of products of int8 rows and 8-bit weights on NEON without dot product. Two products fit 16 bits
// (lowest_weight.h has the exception): SMULL and SMLAL2 multiply sixteen channels of one row with those of one output,
// and SADALP adds them to 32-bit sums. The lanes of an output are added up at the end.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_INT8_SUMS_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_INT8_SUMS_NEON_H_

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/unroll.h"

// Before it gives out registers GCC's scheduler loads all rows at once, and has none left for the sums.
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

namespace tfq::int4 {

constexpr int32_t kInt8Mr = 4;
constexpr size_t kInt8GroupBytes = 32;  // eight channels of four outputs

// Of kRows rows and four output channels, four lanes each.
template <int kRows>
struct Int8Sums {
  int32x4_t lanes[kRows][4];
};

// Sixteen channels, `load` giving them for each row. Rows go in pairs, so that eight instructions stand between two
// that wait for each other.
template <bool kLowest, int kRows, typename Load>
static inline void AddInt8Step(const uint8_t* group, const Load& load, Int8Sums<kRows>& sums) {
  int8x16_t weights[4];
  TFQ_UNROLL
  for (int i = 0; i < 4; ++i) weights[i] = vreinterpretq_s8_u8(vld1q_u8(group + 16 * i));
  TFQ_UNROLL
  for (int first = 0; first < kRows; first += 2) {
    const int end = first + 2 < kRows ? first + 2 : kRows;
    int8x16_t a[kRows];
    int16x8_t products[kRows][4];
    TFQ_UNROLL
    for (int m = first; m < end; ++m) a[m] = load(m);
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) products[m][i] = vmull_s8(vget_low_s8(weights[i]), vget_low_s8(a[m]));
    }
    if (kLowest) {
      TFQ_UNROLL
      for (int i = 0; i < 4; ++i) {
        TFQ_UNROLL
        for (int m = first; m < end; ++m) sums.lanes[m][i] = vpadalq_s16(sums.lanes[m][i], products[m][i]);
      }
    }
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) {
        products[m][i] = kLowest ? vmull_high_s8(weights[i], a[m]) : vmlal_high_s8(products[m][i], weights[i], a[m]);
      }
    }
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) sums.lanes[m][i] = vpadalq_s16(sums.lanes[m][i], products[m][i]);
    }
  }
}

// Up to eight channels.
template <int kRows>
static inline void AddInt8HalfStep(const uint8_t* group, const int8_t* const* rows, int32_t c, int32_t count,
                                   Int8Sums<kRows>& sums) {
  const int8x16_t first = vreinterpretq_s8_u8(vld1q_u8(group)), second = vreinterpretq_s8_u8(vld1q_u8(group + 16));
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const int8x8_t a = LoadPartNeon(rows[m] + c, count);
    const int8x16_t twice = vcombine_s8(a, a);
    sums.lanes[m][0] = vpadalq_s16(sums.lanes[m][0], vmull_s8(vget_low_s8(first), a));
    sums.lanes[m][1] = vpadalq_s16(sums.lanes[m][1], vmull_high_s8(first, twice));
    sums.lanes[m][2] = vpadalq_s16(sums.lanes[m][2], vmull_s8(vget_low_s8(second), a));
    sums.lanes[m][3] = vpadalq_s16(sums.lanes[m][3], vmull_high_s8(second, twice));
  }
}

// Adds the products of all taps' channels to `total`. Rows are kInt8Mr to a tap. kLowest: a weight may be -128.
template <bool kLowest, int kRows>
static inline void AddInt8Taps(int32_t taps, int32_t channels, const int8_t* const* rows, const uint8_t* group,
                               int32x4_t (&total)[kRows][1]) {
  Int8Sums<kRows> sums;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) sums.lanes[m][i] = vdupq_n_s32(0);
  }
  const int32_t tail = static_cast<int32_t>(static_cast<uint32_t>(channels) % 16);
  for (int32_t tap = 0; tap < taps; ++tap, rows += kInt8Mr) {
    int32_t c = 0;
    for (; c < channels - tail; c += 16, group += 2 * kInt8GroupBytes) {
      AddInt8Step<kLowest>(
          group, [&](int m) { return vld1q_s8(rows[m] + c); }, sums);
    }
    if (tail > 8) {
      const auto load_part = [&](int m) {
        return vcombine_s8(vld1_s8(rows[m] + c), LoadPartNeon(rows[m] + c + 8, tail - 8));
      };
      AddInt8Step<kLowest>(group, load_part, sums);
      group += 2 * kInt8GroupBytes;
    } else if (tail > 0) {
      AddInt8HalfStep(group, rows, c, tail, sums);
      group += kInt8GroupBytes;
    }
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const int32x4_t first = vpaddq_s32(sums.lanes[m][0], sums.lanes[m][1]);
    const int32x4_t second = vpaddq_s32(sums.lanes[m][2], sums.lanes[m][3]);
    total[m][0] = vaddq_s32(total[m][0], vpaddq_s32(first, second));
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_INT8_SUMS_NEON_H_
