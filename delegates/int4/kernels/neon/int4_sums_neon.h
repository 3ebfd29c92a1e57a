// Sums of products of int8 rows and 4-bit weights on NEON without dot product. A product is at most 1024, so 16-bit
// sums hold 31 of them: SMLAL and SMLAL2 add sixteen channels of one row to the sums of one output, two to a lane, for
// fifteen steps before they are widened. Nothing is broadcast; the lanes of an output are added up when they are
// widened.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_INT4_SUMS_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_INT4_SUMS_NEON_H_

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

constexpr int32_t kInt4Mr = 6;
constexpr size_t kInt4GroupBytes = 16;  // eight channels of four outputs
constexpr int32_t kStepsIn16Bits = 15;

struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

static inline WeightPair DecodeWeights(const uint8_t* from) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from));
  return {vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), vshrq_n_s8(bytes, 4)};
}

// The sums of kRows rows and four output channels that the last `steps` steps added, in 16 bits.
template <int kRows>
struct Int4Sums {
  int16x8_t narrow[kRows][4];
  int32_t steps = 0;

  void Clear() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      TFQ_UNROLL
      for (int i = 0; i < 4; ++i) narrow[m][i] = vdupq_n_s16(0);
    }
  }

  void Collect(int32x4_t (&total)[kRows][1]) {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const int32x4_t first = vpaddq_s32(vpaddlq_s16(narrow[m][0]), vpaddlq_s16(narrow[m][1]));
      const int32x4_t second = vpaddq_s32(vpaddlq_s16(narrow[m][2]), vpaddlq_s16(narrow[m][3]));
      total[m][0] = vaddq_s32(total[m][0], vpaddq_s32(first, second));
    }
    steps = 0;
  }

  void CountSteps(int32_t count, int32x4_t (&total)[kRows][1]) {
    steps += count;
    if (steps == kStepsIn16Bits) Collect(total);
  }

  // Asks for the sums in registers behind the inner loop. GCC would have them elsewhere there and copy them in every
  // turn.
  void KeepInRegisters() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      TFQ_UNROLL
      for (int i = 0; i < 4; ++i) asm("" : "+w"(narrow[m][i]));
    }
  }
};

// Sixteen channels, `load` giving them for each row. kStart writes the 16-bit sums, where else it adds to them. Rows go
// in pairs, so that eight multiplications stand between two that add to the same sum.
template <bool kStart, int kRows, typename Load>
static inline void AddInt4Step(const uint8_t* group, const Load& load, Int4Sums<kRows>& sums) {
  const WeightPair pairs[2] = {DecodeWeights(group), DecodeWeights(group + kInt4GroupBytes)};
  const int8x16_t weights[4] = {pairs[0].low, pairs[0].high, pairs[1].low, pairs[1].high};
  TFQ_UNROLL
  for (int first = 0; first < kRows; first += 2) {
    const int end = first + 2 < kRows ? first + 2 : kRows;
    int8x16_t a[kRows];
    TFQ_UNROLL
    for (int m = first; m < end; ++m) a[m] = load(m);
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) {
        int16x8_t& sum = sums.narrow[m][i];
        const int8x8_t w = vget_low_s8(weights[i]);
        sum = kStart ? vmull_s8(w, vget_low_s8(a[m])) : vmlal_s8(sum, w, vget_low_s8(a[m]));
      }
    }
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) {
        sums.narrow[m][i] = vmlal_high_s8(sums.narrow[m][i], weights[i], a[m]);
      }
    }
  }
}

// Up to eight channels.
template <int kRows>
static inline void AddInt4HalfStep(const uint8_t* group, const int8_t* const* rows, int32_t c, int32_t count,
                                   Int4Sums<kRows>& sums) {
  const WeightPair weights = DecodeWeights(group);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const int8x8_t a = LoadPartNeon(rows[m] + c, count);
    const int8x16_t twice = vcombine_s8(a, a);
    sums.narrow[m][0] = vmlal_s8(sums.narrow[m][0], vget_low_s8(weights.low), a);
    sums.narrow[m][1] = vmlal_high_s8(sums.narrow[m][1], weights.low, twice);
    sums.narrow[m][2] = vmlal_s8(sums.narrow[m][2], vget_low_s8(weights.high), a);
    sums.narrow[m][3] = vmlal_high_s8(sums.narrow[m][3], weights.high, twice);
  }
}

// The loop that counts: `steps` (1 to 14) of sixteen channels and, if `half`, eight channels more, of six rows; adds
// their sums to `total`. From intrinsics GCC 12 runs out of registers. Rows go in pairs, so that eight multiplications
// stand between two that add to the same sum, and what has a shorter latency than a multiplication stands together, for
// an in-order CPU waits before it.
//
// x0..x5: rows; x6: channel. v0..v23: 16-bit sums, four output channels of each row; v24..v27: decoded weights;
// v28, v29 and v30, v31: sixteen channels of two rows.
#define TFQ_PAIR(low, s00, s01, s02, s03, s10, s11, s12, s13, a0, a1)                                                \
  low " v" s00 ".8h, v24.8b, v" a0 ".8b\n" low " v" s10 ".8h, v24.8b, v" a1 ".8b\n" low " v" s01 ".8h, v25.8b, v" a0 \
      ".8b\n" low " v" s11 ".8h, v25.8b, v" a1 ".8b\n" low " v" s02 ".8h, v26.8b, v" a0 ".8b\n" low " v" s12         \
      ".8h, v26.8b, v" a1 ".8b\n" low " v" s03 ".8h, v27.8b, v" a0 ".8b\n" low " v" s13 ".8h, v27.8b, v" a1          \
      ".8b\n"                                                                                                        \
      "smlal2 v" s00 ".8h, v24.16b, v" a0                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s10 ".8h, v24.16b, v" a1                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s01 ".8h, v25.16b, v" a0                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s11 ".8h, v25.16b, v" a1                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s02 ".8h, v26.16b, v" a0                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s12 ".8h, v26.16b, v" a1                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s03 ".8h, v27.16b, v" a0                                                                            \
      ".16b\n"                                                                                                       \
      "smlal2 v" s13 ".8h, v27.16b, v" a1 ".16b\n"
#define TFQ_STEP(low) \
  "ldp q25, q27, [%[group]], #32\n" \
  "ldr q28, [x0, x6]\n" \
  "ldr q29, [x1, x6]\n" \
  "shl v24.16b, v25.16b, #4\n" \
  "shl v26.16b, v27.16b, #4\n" \
  "sshr v25.16b, v25.16b, #4\n" \
  "sshr v27.16b, v27.16b, #4\n" \
  "sshr v24.16b, v24.16b, #4\n" \
  "sshr v26.16b, v26.16b, #4\n" \
  "ldr q30, [x2, x6]\n" \
  "ldr q31, [x3, x6]\n" \
  TFQ_PAIR(low, "0", "1", "2", "3", "4", "5", "6", "7", "28", "29") \
  "ldr q28, [x4, x6]\n" \
  "ldr q29, [x5, x6]\n" \
  TFQ_PAIR(low, "8", "9", "10", "11", "12", "13", "14", "15", "30", "31") \
  TFQ_PAIR(low, "16", "17", "18", "19", "20", "21", "22", "23", "28", "29")
#define TFQ_HALF(row, s0, s1, s2, s3) \
  "add " row ", " row                 \
  ", x6\n"                            \
  "ld1r {v28.2d}, [" row              \
  "]\n"                               \
  "smlal v" s0                        \
  ".8h, v24.8b, v28.8b\n"             \
  "smlal2 v" s1                       \
  ".8h, v24.16b, v28.16b\n"           \
  "smlal v" s2                        \
  ".8h, v25.8b, v28.8b\n"             \
  "smlal2 v" s3 ".8h, v25.16b, v28.16b\n"
#define TFQ_COLLECT(s0, s1, s2, s3, total) \
  "saddlp v" s0 ".4s, v" s0                \
  ".8h\n"                                  \
  "saddlp v" s1 ".4s, v" s1                \
  ".8h\n"                                  \
  "saddlp v" s2 ".4s, v" s2                \
  ".8h\n"                                  \
  "saddlp v" s3 ".4s, v" s3                \
  ".8h\n"                                  \
  "addp v" s0 ".4s, v" s0 ".4s, v" s1      \
  ".4s\n"                                  \
  "addp v" s2 ".4s, v" s2 ".4s, v" s3      \
  ".4s\n"                                  \
  "addp v" s0 ".4s, v" s0 ".4s, v" s2      \
  ".4s\n"                                  \
  "add v" total ".4s, v" total ".4s, v" s0 ".4s\n"

static inline void AddInt4Steps(const int8_t* const* rows, int64_t channel, int64_t steps, bool half,
                                const uint8_t* group, int32x4_t* total) {
  int64_t more = steps - 1;
  asm volatile(
      "ldp x0, x1, [%[rows]]\n"
      "ldp x2, x3, [%[rows], #16]\n"
      "ldp x4, x5, [%[rows], #32]\n"
      "mov x6, %[channel]\n"
      TFQ_STEP("smull")
      "cbz %[more], 2f\n"
      "1:\n"
      "add x6, x6, #16\n"
      "subs %[more], %[more], #1\n"
      TFQ_STEP("smlal")
      "b.ne 1b\n"
      "2:\n"
      "cbz %[half], 3f\n"
      "add x6, x6, #16\n"
      "ldr q25, [%[group]]\n"
      "shl v24.16b, v25.16b, #4\n"
      "sshr v25.16b, v25.16b, #4\n"
      "sshr v24.16b, v24.16b, #4\n"
      TFQ_HALF("x0", "0", "1", "2", "3")
      TFQ_HALF("x1", "4", "5", "6", "7")
      TFQ_HALF("x2", "8", "9", "10", "11")
      TFQ_HALF("x3", "12", "13", "14", "15")
      TFQ_HALF("x4", "16", "17", "18", "19")
      TFQ_HALF("x5", "20", "21", "22", "23")
      "3:\n"
      "ldp q24, q25, [%[total]]\n"
      "ldp q26, q27, [%[total], #32]\n"
      "ldp q28, q29, [%[total], #64]\n"
      TFQ_COLLECT("0", "1", "2", "3", "24")
      TFQ_COLLECT("4", "5", "6", "7", "25")
      TFQ_COLLECT("8", "9", "10", "11", "26")
      TFQ_COLLECT("12", "13", "14", "15", "27")
      TFQ_COLLECT("16", "17", "18", "19", "28")
      TFQ_COLLECT("20", "21", "22", "23", "29")
      "stp q24, q25, [%[total]]\n"
      "stp q26, q27, [%[total], #32]\n"
      "stp q28, q29, [%[total], #64]\n"
      : [group] "+r"(group), [more] "+r"(more)
      : [rows] "r"(rows), [channel] "r"(channel), [half] "r"(int64_t{half}), [total] "r"(total)
      : "cc", "memory", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8",
        "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
        "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

#undef TFQ_PAIR
#undef TFQ_STEP
#undef TFQ_HALF
#undef TFQ_COLLECT

// Adds the products of `taps` taps' channels first..first+channels-1 to `total`. Rows are kInt4Mr to a tap.
template <int kRows>
static inline void AddInt4Taps(int32_t taps, int32_t first, int32_t channels, const int8_t* const* rows,
                               const uint8_t* group, int32x4_t (&total)[kRows][1]) {
  Int4Sums<kRows> sums;
  const int32_t tail = static_cast<int32_t>(static_cast<uint32_t>(channels) % 16);
  const int32_t end = first + channels;
  const int32_t whole = end - tail;
  for (int32_t tap = 0; tap < taps; ++tap, rows += kInt4Mr) {
    int32_t c = first;
    bool tail_done = tail == 0;
    if (kRows == kInt4Mr) {
      while (c < whole) {
        const int32_t left = (whole - c) / 16;
        const int32_t steps = left < kStepsIn16Bits ? left : kStepsIn16Bits - 1;
        const bool half = steps == left && tail == 8;
        AddInt4Steps(rows, c, steps, half, group, total[0]);
        c += 16 * steps;
        group += (2 * steps + half) * kInt4GroupBytes;
        tail_done |= half;
      }
    } else {
      const auto load = [&](int m) { return vld1q_s8(rows[m] + c); };
      while (c < whole) {
        int32_t count = 0;
        if (sums.steps == 0) {
          AddInt4Step<true>(group, load, sums);
          count = 1;
          c += 16;
          group += 2 * kInt4GroupBytes;
        }
        const int32_t room = kStepsIn16Bits - sums.steps - count;
        const int32_t left = (whole - c) / 16;
        const int32_t more = left < room ? left : room;
        for (const int32_t stop = c + more * 16; c < stop; c += 16, group += 2 * kInt4GroupBytes) {
          AddInt4Step<false>(group, load, sums);
        }
        sums.KeepInRegisters();
        sums.CountSteps(count + more, total);
      }
    }
    if (tail_done) continue;
    if (sums.steps == 0) sums.Clear();
    if (tail > 8) {
      const auto load_part = [&](int m) {
        return vcombine_s8(vld1_s8(rows[m] + c), LoadPartNeon(rows[m] + c + 8, tail - 8));
      };
      AddInt4Step<false>(group, load_part, sums);
      group += 2 * kInt4GroupBytes;
    } else {
      AddInt4HalfStep(group, rows, c, tail, sums);
      group += kInt4GroupBytes;
    }
    sums.CountSteps(1, total);
  }
  if (sums.steps != 0) sums.Collect(total);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_INT4_SUMS_NEON_H_
