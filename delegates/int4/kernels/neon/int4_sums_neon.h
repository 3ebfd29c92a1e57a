// Sums of products of int8 rows and 4-bit weights on NEON without dot product. A product is at most 1024, so 16-bit
// sums hold 31 of them: SMLAL and SMLAL2 add sixteen channels of one row to the sums of one output, two to a lane, for
// fifteen steps before they are widened. Nothing is broadcast; the lanes of an output are added up when they are
// widened. Of joined weights (packing/joined_nibbles.h) the products of whole bytes overflow, but wrap, so that what is
// left when the high ones are taken off is exact.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_INT4_SUMS_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_INT4_SUMS_NEON_H_

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/neon/weight_pairs_neon.h"
#include "delegates/int4/kernels/unroll.h"

// Before it gives out registers GCC's scheduler loads all rows at once, and has none left for the sums.
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

namespace tfq::int4 {

constexpr int32_t kInt4Mr = 6;
constexpr size_t kInt4GroupBytes = 16;  // eight channels of four outputs
constexpr int32_t kStepsIn16Bits = 15;

// The sums of kRows rows and four output channels that the last `steps` steps added, in 16 bits; those of the first two
// are of whole bytes where weights are joined.
template <WeightForm form, int kRows>
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
      if (form == WeightForm::kJoined) {
        TFQ_UNROLL
        for (int i = 0; i < 2; ++i) {
          narrow[m][i] = vmlsq_s16(narrow[m][i], narrow[m][i + 2], vdupq_n_s16(16));
        }
      }
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
template <bool kStart, WeightForm form, int kRows, typename Load>
static inline void AddInt4Step(const uint8_t* group, const Load& load, Int4Sums<form, kRows>& sums) {
  const WeightPair pairs[2] = {LoadWeights<form>(group), LoadWeights<form>(group + kInt4GroupBytes)};
  const int8x16_t weights[4] = {pairs[0].low, pairs[1].low, pairs[0].high, pairs[1].high};
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
template <WeightForm form, int kRows>
static inline void AddInt4HalfStep(const uint8_t* group, const int8_t* const* rows, int32_t c, int32_t count,
                                   Int4Sums<form, kRows>& sums) {
  const WeightPair weights = LoadWeights<form>(group);
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

// The loop that counts: `steps` (1 to 14) of sixteen channels and, if `half`, eight channels more, of six rows and
// joined weights; adds their sums to `total`. It stands in the order in which an in-order CPU should issue it: rows go
// in pairs, so that eight products stand between two that add to the same sum, registers are loaded again as soon as
// they are free, and loads have an index, for such a CPU has one with a constant wait for the products before it. From
// intrinsics GCC 12 runs out of registers.
//
// x0..x5: rows; x6: channel; x7: weights, up to 0 at the end of the steps. v0..v23: 16-bit sums, four output channels
// of each row; v24, v25: bytes of weights; v26, v27: the high ones of them; v28, v29 and v30, v31: sixteen channels of
// two rows. One instruction a line:
// clang-format off

#define TFQ_TWO(op, half, s0, s1, w, a0, a1)               \
  op " v" s0 ".8h, v" w "." half ", v" a0 "." half "\n"    \
  op " v" s1 ".8h, v" w "." half ", v" a1 "." half "\n"
// The products of lanes 0..7 of two rows' channels with those of four outputs, and of lanes 8..15.
#define TFQ_LOWER(op, s00, s01, s02, s03, s10, s11, s12, s13, a0, a1) \
  TFQ_TWO(op, "8b", s00, s10, "24", a0, a1)                           \
  TFQ_TWO(op, "8b", s01, s11, "25", a0, a1)                           \
  TFQ_TWO(op, "8b", s02, s12, "26", a0, a1)                           \
  TFQ_TWO(op, "8b", s03, s13, "27", a0, a1)
#define TFQ_UPPER(s00, s01, s02, s03, s10, s11, s12, s13, a0, a1, then) \
  TFQ_TWO("smlal2", "16b", s00, s10, "24", a0, a1)                      \
  "smlal2 v" s01 ".8h, v25.16b, v" a0 ".16b\n"                          \
  then                                                                  \
  "smlal2 v" s11 ".8h, v25.16b, v" a1 ".16b\n"                          \
  TFQ_TWO("smlal2", "16b", s02, s12, "26", a0, a1)                      \
  TFQ_TWO("smlal2", "16b", s03, s13, "27", a0, a1)
#define TFQ_ROW(a, row) "ldr q" a ", [" row ", x6]\n"
#define TFQ_FOUR_ROWS(op)                                                          \
  TFQ_LOWER(op, "0", "1", "2", "3", "4", "5", "6", "7", "28", "29")                \
  TFQ_UPPER("0", "1", "2", "3", "4", "5", "6", "7", "28", "29", )                  \
  TFQ_ROW("29", "x5")                                                              \
  TFQ_LOWER(op, "8", "9", "10", "11", "12", "13", "14", "15", "30", "31")          \
  TFQ_UPPER("8", "9", "10", "11", "12", "13", "14", "15", "30", "31", TFQ_ROW("28", "x4") "add x6, x6, #16\n")
// A step that is followed by another.
#define TFQ_STEP(op)                                                               \
  TFQ_FOUR_ROWS(op)                                                                \
  TFQ_TWO(op, "8b", "16", "20", "24", "28", "29")                                  \
  op " v17.8h, v25.8b, v28.8b\n"                                                   \
  TFQ_ROW("31", "x3")                                                              \
  op " v21.8h, v25.8b, v29.8b\n"                                                   \
  TFQ_ROW("30", "x2")                                                              \
  TFQ_TWO("smlal2", "16b", "16", "20", "24", "28", "29")                           \
  "smlal2 v17.8h, v25.16b, v28.16b\n"                                              \
  "ldr q24, [%[end], x7]\n"                                                        \
  "smlal2 v21.8h, v25.16b, v29.16b\n"                                              \
  TFQ_TWO(op, "8b", "18", "22", "26", "28", "29")                                  \
  TFQ_TWO(op, "8b", "19", "23", "27", "28", "29")                                  \
  "ldr q25, [%[upper_end], x7]\n"                                                  \
  "adds x7, x7, #32\n"                                                             \
  TFQ_TWO("smlal2", "16b", "18", "22", "26", "28", "29")                           \
  TFQ_TWO("smlal2", "16b", "19", "23", "27", "28", "29")                           \
  "srshr v27.16b, v25.16b, #4\n"                                                   \
  TFQ_ROW("28", "x0")                                                              \
  "srshr v26.16b, v24.16b, #4\n"                                                   \
  TFQ_ROW("29", "x1")
#define TFQ_LAST_STEP(op)                                                          \
  TFQ_FOUR_ROWS(op)                                                                \
  TFQ_LOWER(op, "16", "17", "18", "19", "20", "21", "22", "23", "28", "29")        \
  TFQ_UPPER("16", "17", "18", "19", "20", "21", "22", "23", "28", "29", )
#define TFQ_HALF(row, s0, s1, s2, s3)       \
  "add " row ", " row ", x6\n"              \
  "ld1r {v28.2d}, [" row "]\n"              \
  "smlal v" s0 ".8h, v24.8b, v28.8b\n"      \
  "smlal2 v" s1 ".8h, v24.16b, v28.16b\n"   \
  "smlal v" s2 ".8h, v25.8b, v28.8b\n"      \
  "smlal2 v" s3 ".8h, v25.16b, v28.16b\n"
#define TFQ_COLLECT(s0, s1, s2, s3, total)      \
  "mls v" s0 ".8h, v" s2 ".8h, v30.8h\n"        \
  "mls v" s1 ".8h, v" s3 ".8h, v30.8h\n"        \
  "saddlp v" s2 ".4s, v" s2 ".8h\n"             \
  "saddlp v" s3 ".4s, v" s3 ".8h\n"             \
  "saddlp v" s0 ".4s, v" s0 ".8h\n"             \
  "saddlp v" s1 ".4s, v" s1 ".8h\n"             \
  "addp v" s2 ".4s, v" s2 ".4s, v" s3 ".4s\n"   \
  "addp v" s0 ".4s, v" s0 ".4s, v" s1 ".4s\n"   \
  "addp v" s0 ".4s, v" s0 ".4s, v" s2 ".4s\n"   \
  "add v" total ".4s, v" total ".4s, v" s0 ".4s\n"

static inline void AddInt4Steps(const int8_t* const* rows, int64_t channel, int64_t steps, bool half,
                                const uint8_t* group, int32x4_t* total) {
  const int64_t bytes = steps * 2 * static_cast<int64_t>(kInt4GroupBytes);
  asm volatile(
      "ldp x0, x1, [%[rows]]\n"
      "ldp x2, x3, [%[rows], #16]\n"
      "ldp x4, x5, [%[rows], #32]\n"
      "mov x6, %[channel]\n"
      "mov x7, %[begin]\n"
      "ldr q24, [%[end], x7]\n"
      "ldr q25, [%[upper_end], x7]\n"
      TFQ_ROW("28", "x0")
      TFQ_ROW("29", "x1")
      TFQ_ROW("30", "x2")
      TFQ_ROW("31", "x3")
      "srshr v26.16b, v24.16b, #4\n"
      "srshr v27.16b, v25.16b, #4\n"
      "adds x7, x7, #32\n"
      "b.eq 3f\n"
      TFQ_STEP("smull")
      "b.eq 2f\n"
      "1:\n"
      TFQ_STEP("smlal")
      "b.ne 1b\n"
      "2:\n"
      TFQ_LAST_STEP("smlal")
      "b 4f\n"
      "3:\n"
      TFQ_LAST_STEP("smull")
      "4:\n"
      "cbz %[half], 5f\n"
      "ldr q24, [%[end]]\n"
      "srshr v25.16b, v24.16b, #4\n"
      TFQ_HALF("x0", "0", "1", "2", "3")
      TFQ_HALF("x1", "4", "5", "6", "7")
      TFQ_HALF("x2", "8", "9", "10", "11")
      TFQ_HALF("x3", "12", "13", "14", "15")
      TFQ_HALF("x4", "16", "17", "18", "19")
      TFQ_HALF("x5", "20", "21", "22", "23")
      "5:\n"
      "movi v30.8h, #16\n"
      "ld1 {v24.16b, v25.16b, v26.16b, v27.16b}, [%[total]]\n"
      "ldp q28, q29, [%[total], #64]\n"
      TFQ_COLLECT("0", "1", "2", "3", "24")
      TFQ_COLLECT("4", "5", "6", "7", "25")
      TFQ_COLLECT("8", "9", "10", "11", "26")
      TFQ_COLLECT("12", "13", "14", "15", "27")
      TFQ_COLLECT("16", "17", "18", "19", "28")
      TFQ_COLLECT("20", "21", "22", "23", "29")
      "st1 {v24.16b, v25.16b, v26.16b, v27.16b}, [%[total]]\n"
      "stp q28, q29, [%[total], #64]\n"
      :
      : [rows] "r"(rows), [channel] "r"(channel), [half] "r"(int64_t{half}), [total] "r"(total), [begin] "r"(-bytes),
        [end] "r"(group + bytes), [upper_end] "r"(group + bytes + kInt4GroupBytes)
      : "cc", "memory", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",
        "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
        "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

#undef TFQ_TWO
#undef TFQ_LOWER
#undef TFQ_UPPER
#undef TFQ_ROW
#undef TFQ_FOUR_ROWS
#undef TFQ_STEP
#undef TFQ_LAST_STEP
#undef TFQ_HALF
#undef TFQ_COLLECT

// clang-format on

// Of weights in either form, see AddInt4Taps().
template <WeightForm form, int kRows>
static inline void AddInt4TapsOf(int32_t taps, int32_t first, int32_t channels, const int8_t* const* rows,
                                 const uint8_t* group, int32x4_t (&total)[kRows][1]) {
  Int4Sums<form, kRows> sums;
  const int32_t tail = static_cast<int32_t>(static_cast<uint32_t>(channels) % 16);
  const int32_t end = first + channels;
  const int32_t whole = end - tail;
  for (int32_t tap = 0; tap < taps; ++tap, rows += kInt4Mr) {
    int32_t c = first;
    bool tail_done = tail == 0;
    if constexpr (form == WeightForm::kJoined && kRows == kInt4Mr) {
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

// Weights that cannot be joined are rare, and out of the way, for any number of rows.
static __attribute__((noinline)) void AddSeparateInt4Taps(int32_t taps, int32_t first, int32_t channels,
                                                          const int8_t* const* rows, const uint8_t* group,
                                                          int32x4_t (&total)[kInt4Mr][1]) {
  AddInt4TapsOf<WeightForm::kSeparate>(taps, first, channels, rows, group, total);
}

// Adds the products of `taps` taps' channels first..first+channels-1 to `total`. Rows are kInt4Mr to a tap.
template <int kRows>
static inline void AddInt4Taps(int32_t taps, int32_t first, int32_t channels, const int8_t* const* rows,
                               const uint8_t* group, bool joined, int32x4_t (&total)[kRows][1]) {
  if (joined) return AddInt4TapsOf<WeightForm::kJoined>(taps, first, channels, rows, group, total);
  int32x4_t all[kInt4Mr][1] = {};
  std::memcpy(all, total, sizeof(total));
  AddSeparateInt4Taps(taps, first, channels, rows, group, all);
  std::memcpy(total, all, sizeof(total));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_INT4_SUMS_NEON_H_
