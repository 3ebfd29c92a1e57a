// GEMM on NEON without dot product (Cortex-A53, A72). A product of int4 and int8 is at most 1024, so 16-bit sums hold
// 31 of them: SMLAL and SMLAL2 add sixteen channels of one row to the sums of one output, two to a lane, for fifteen
// steps before they are widened. Nothing is broadcast; the lanes of an output are added up when they are widened.
#include <arm_neon.h>

#include <cstring>

#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/gemm_blocks.h"
#include "delegates/int4/packing/packing.h"

// Before it gives out registers GCC's scheduler loads all rows at once, and has none left for the sums.
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 6;
constexpr int32_t kNr = 4;
constexpr int32_t kKr = 8;
constexpr BlockLayout kLayout = {kNr, kKr, 4};
constexpr size_t kGroupBytes = GroupBytes(kLayout);
constexpr int32_t kStepsIn16Bits = 15;

size_t PackedBytes(const GemmShape& shape) { return PackedBytesOf(kLayout, shape); }

// Two groups of eight channels make a step of 32 bytes: byte k holds channel 0 (low nibble) and 1 (high) of the block,
// byte 16 + k channels 2 and 3. An odd last group makes 16 bytes: bytes k and 8 + k hold channels 0 and 1 low, 2 and 3
// high.
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  const int32_t groups = static_cast<int32_t>(GroupsOfTap(kLayout, shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes(kLayout, shape)) {
    int32_t sums[kNr] = {};
    for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
      const size_t weights = (n_begin + i) * depth;
      sums[i] = SumOfWeights(source.values, weights, depth, 1);
      uint8_t* tap_bytes = block + ChannelSectionBytes(kNr);
      for (int32_t tap = 0; tap < shape.taps; ++tap, tap_bytes += groups * kGroupBytes) {
        for (int32_t c = 0; c < shape.channels; ++c) {
          const int32_t value = ValueAt(source.values, weights + size_t(tap) * shape.channels + c) & 15;
          const bool paired = c / 16 * 2 + 1 < groups;
          uint8_t* step = tap_bytes + c / 16 * 2 * kGroupBytes;
          uint8_t& byte = paired ? step[i / 2 * 16 + c % 16] : step[i % 2 * 8 + c % 8];
          byte |= static_cast<uint8_t>(value << (paired ? i % 2 * 4 : i / 2 * 4));
        }
      }
    }
    WriteChannelSection(source, n_begin, shape.n, kNr, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

inline WeightPair DecodeWeights(const uint8_t* from) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from));
  return {vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), vshrq_n_s8(bytes, 4)};
}

// The sums of kRows rows and four output channels: total in 32 bits, and in 16 bits what the last `steps` steps added.
template <int kRows>
struct Sums {
  int32x4_t total[kRows][1];
  int16x8_t narrow[kRows][kNr];
  int32_t steps = 0;

  void Clear() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      TFQ_UNROLL
      for (int i = 0; i < kNr; ++i) narrow[m][i] = vdupq_n_s16(0);
    }
  }

  void Collect() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const int32x4_t first = vpaddq_s32(vpaddlq_s16(narrow[m][0]), vpaddlq_s16(narrow[m][1]));
      const int32x4_t second = vpaddq_s32(vpaddlq_s16(narrow[m][2]), vpaddlq_s16(narrow[m][3]));
      total[m][0] = vaddq_s32(total[m][0], vpaddq_s32(first, second));
    }
    steps = 0;
  }

  void CountSteps(int32_t count) {
    steps += count;
    if (steps == kStepsIn16Bits) Collect();
  }

  // Asks for the sums in registers behind the inner loop. GCC would have them elsewhere there and copy them in every
  // turn.
  void KeepInRegisters() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      TFQ_UNROLL
      for (int i = 0; i < kNr; ++i) asm("" : "+w"(narrow[m][i]));
    }
  }
};

// Sixteen channels, `load` giving them for each row. kStart writes the 16-bit sums, where else it adds to them. Rows go
// in pairs, so that eight multiplications stand between two that add to the same sum.
template <bool kStart, int kRows, typename Load>
inline void AddStep(const uint8_t* group, const Load& load, Sums<kRows>& sums) {
  const WeightPair pairs[2] = {DecodeWeights(group), DecodeWeights(group + kGroupBytes)};
  const int8x16_t weights[kNr] = {pairs[0].low, pairs[0].high, pairs[1].low, pairs[1].high};
  TFQ_UNROLL
  for (int first = 0; first < kRows; first += 2) {
    const int end = first + 2 < kRows ? first + 2 : kRows;
    int8x16_t a[kRows];
    TFQ_UNROLL
    for (int m = first; m < end; ++m) a[m] = load(m);
    TFQ_UNROLL
    for (int i = 0; i < kNr; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) {
        int16x8_t& sum = sums.narrow[m][i];
        const int8x8_t w = vget_low_s8(weights[i]);
        sum = kStart ? vmull_s8(w, vget_low_s8(a[m])) : vmlal_s8(sum, w, vget_low_s8(a[m]));
      }
    }
    TFQ_UNROLL
    for (int i = 0; i < kNr; ++i) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) {
        sums.narrow[m][i] = vmlal_high_s8(sums.narrow[m][i], weights[i], a[m]);
      }
    }
  }
}

// Up to eight channels.
template <int kRows>
inline void AddHalfStep(const uint8_t* group, const int8_t* const* rows, int32_t c, int32_t count, Sums<kRows>& sums) {
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

void AddSteps(const int8_t* const* rows, int64_t channel, int64_t steps, bool half, const uint8_t* group,
              int32x4_t* total) {
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

template <int kRows>
inline void SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* block, Sums<kRows>& sums) {
  const int32x4_t bias = vld1q_s32(reinterpret_cast<const int32_t*>(block));
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) sums.total[m][0] = bias;
  const uint8_t* group = block + ChannelSectionBytes(kNr);
  const int32_t tail = static_cast<int32_t>(static_cast<uint32_t>(shape.channels) % 16);
  const int32_t whole = shape.channels - tail;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    int32_t c = 0;
    bool tail_done = tail == 0;
    if (kRows == kMr) {
      while (c < whole) {
        const int32_t left = (whole - c) / 16;
        const int32_t steps = left < kStepsIn16Bits ? left : kStepsIn16Bits - 1;
        const bool half = steps == left && tail == kKr;
        AddSteps(rows, c, steps, half, group, sums.total[0]);
        c += 16 * steps;
        group += (2 * steps + half) * kGroupBytes;
        tail_done |= half;
      }
    } else {
      const auto load = [&](int m) { return vld1q_s8(rows[m] + c); };
      while (c < whole) {
        int32_t count = 0;
        if (sums.steps == 0) {
          AddStep<true>(group, load, sums);
          count = 1;
          c += 16;
          group += 2 * kGroupBytes;
        }
        const int32_t room = kStepsIn16Bits - sums.steps - count;
        const int32_t left = (whole - c) / 16;
        const int32_t more = left < room ? left : room;
        for (const int32_t end = c + more * 16; c < end; c += 16, group += 2 * kGroupBytes) {
          AddStep<false>(group, load, sums);
        }
        sums.KeepInRegisters();
        sums.CountSteps(count + more);
      }
    }
    if (tail_done) continue;
    if (sums.steps == 0) sums.Clear();
    if (tail > kKr) {
      const auto load_part = [&](int m) {
        return vcombine_s8(vld1_s8(rows[m] + c), LoadPartNeon(rows[m] + c + kKr, tail - kKr));
      };
      AddStep<false>(group, load_part, sums);
      group += 2 * kGroupBytes;
    } else {
      AddHalfStep(group, rows, c, tail, sums);
      group += kGroupBytes;
    }
    sums.CountSteps(1);
  }
  if (sums.steps != 0) sums.Collect();
}

template <int kRows>
void RunRows(const GemmShape shape, const GemmTile tile) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  for (auto at = BlocksOf(kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    Sums<kRows> sums;
    SumBlock<kRows>(shape, tile.rows, at.packed, sums);
    const int32_t* multiplier = reinterpret_cast<const int32_t*>(at.packed) + kNr;
    const ScaleNeon<1> scale(multiplier, multiplier + kNr, at.n, ties_away_begin);
    ScaleRowsNeon(sums.total, scale, scale.OnlyRight(), form);
    StoreFoursNeon(sums.total, stage, tile.m, tile.n_end - at.n, at.out, tile.out_stride);
  }
}

void Run(const GemmShape& shape, const GemmTile& tile) {
  switch (tile.m) {
    case 1:
      return RunRows<1>(shape, tile);
    case 2:
      return RunRows<2>(shape, tile);
    case 3:
      return RunRows<3>(shape, tile);
    case 4:
      return RunRows<4>(shape, tile);
    case 5:
      return RunRows<5>(shape, tile);
    default:
      return RunRows<6>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_6x4c8_neon = {
    "gemm_qs8_qs4cw_6x4c8_neon", CpuTier::kNeon, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
