// GEMM on NEON with dot product. Decoding four bits takes one instruction: the high nibble is shifted down with its
// sign, the low one is moved to the top of its byte and left there. SDOT then sums 16 times the products of the low
// ones, and one arithmetic shift of the sum takes the 16 off again, exactly, up to 2^17 channels. Where that shift
// costs more than it saves, on short rows, and where it would not be exact, on very long ones, the low nibble is
// shifted down as well.
#include <arm_neon.h>

#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/gemm_blocks.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 8;
constexpr int32_t kNr = 8;
constexpr int32_t kKr = 4;
constexpr BlockLayout kLayout = {kNr, kKr, 4};
constexpr size_t kGroupBytes = GroupBytes(kLayout);
constexpr int32_t kStepChannels = 16;  // one load of a row

// Rows of this many channels are summed 16-fold.
constexpr int64_t kMinDepth16Fold = 64;
constexpr int64_t kMaxDepth16Fold = 1 << 16;

size_t PackedBytes(const GemmShape& shape) { return PackedBytesOf(kLayout, shape); }

void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(kLayout, shape, source, packed);
}

struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

template <bool k16Fold>
inline WeightPair DecodeWeights(const uint8_t* group) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(group));
  const int8x16_t low = vshlq_n_s8(bytes, 4);
  return {k16Fold ? low : vshrq_n_s8(low, 4), vshrq_n_s8(bytes, 4)};
}

// Of one row and eight output channels.
struct RowSums {
  int32x4_t low;
  int32x4_t high;
};

// Four channels: lane kLane of what each row has in `a`.
template <bool k16Fold, int kLane, int kRows>
inline void AddLane(const uint8_t* group, const int8x16_t (&a)[kRows], RowSums (&sums)[kRows]) {
  const WeightPair weights = DecodeWeights<k16Fold>(group);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    sums[m].low = vdotq_laneq_s32(sums[m].low, weights.low, a[m], kLane);
    sums[m].high = vdotq_laneq_s32(sums[m].high, weights.high, a[m], kLane);
  }
}

// The loop that counts: `channels` (a multiple of 16, not 0) of eight rows, 16-fold. It is written in the order in
// which an in-order CPU should issue it: registers are loaded again as soon as they are free, and the shifts stand
// together. From intrinsics GCC 12 makes another order, in which a Cortex-A55 waits half of the time.
//
// x0..x7: rows; x8: next channel; x9, x10, x11: 16, 32, 48. v0..v15: low and high sums of each row; v16..v23: sixteen
// channels of each row; v24..v27: high nibbles of the weights of lanes 0..3; v28..v31: the low ones.
#define TFQ_ROW(sum_low, sum_high, a, lane, low, high)  \
  "sdot v" sum_low ".4s, v" low ".16b, v" a ".4b[" lane \
  "]\n"                                                 \
  "sdot v" sum_high ".4s, v" high ".16b, v" a ".4b[" lane "]\n"
#define TFQ_LANE(lane, low, high, then0, then1, then2, then3, then4, then5, then6, then7) \
  TFQ_ROW("0", "1", "16", lane, low, high) then0 TFQ_ROW("2", "3", "17", lane, low, high) \
  then1 TFQ_ROW("4", "5", "18", lane, low, high)                                          \
  then2 TFQ_ROW("6", "7", "19", lane, low, high)                                          \
  then3 TFQ_ROW("8", "9", "20", lane, low, high)                                          \
  then4 TFQ_ROW("10", "11", "21", lane, low, high)                                        \
  then5 TFQ_ROW("12", "13", "22", lane, low, high)                                        \
  then6 TFQ_ROW("14", "15", "23", lane, low, high) then7
#define TFQ_DECODE              \
  "shl v30.16b, v28.16b, #4\n"  \
  "sshr v26.16b, v28.16b, #4\n" \
  "shl v31.16b, v29.16b, #4\n"  \
  "sshr v27.16b, v29.16b, #4\n" \
  "shl v28.16b, v24.16b, #4\n"  \
  "sshr v24.16b, v24.16b, #4\n" \
  "shl v29.16b, v25.16b, #4\n"  \
  "sshr v25.16b, v25.16b, #4\n"

void AddSteps(const int8_t* const* rows, int64_t channels, const uint8_t* group, RowSums* sums) {
  asm volatile(
      "ldp x0, x1, [%[rows]]\n"
      "ldp x2, x3, [%[rows], #16]\n"
      "ldp x4, x5, [%[rows], #32]\n"
      "ldp x6, x7, [%[rows], #48]\n"
      "mov x8, #16\n"
      "mov x9, #16\n"
      "mov x10, #32\n"
      "mov x11, #48\n"
      "ldp q24, q25, [%[group]]\n"
      "ldp q28, q29, [%[group], #32]\n"
      "ldr q16, [x0]\n"
      "ldr q17, [x1]\n"
      "ldr q18, [x2]\n"
      "ldr q19, [x3]\n"
      "ldr q20, [x4]\n"
      "ldr q21, [x5]\n"
      "ldr q22, [x6]\n"
      "ldr q23, [x7]\n"
      "ldp q0, q1, [%[sums]]\n"
      "ldp q2, q3, [%[sums], #32]\n"
      "ldp q4, q5, [%[sums], #64]\n"
      "ldp q6, q7, [%[sums], #96]\n"
      "ldp q8, q9, [%[sums], #128]\n"
      "ldp q10, q11, [%[sums], #160]\n"
      "ldp q12, q13, [%[sums], #192]\n"
      "ldp q14, q15, [%[sums], #224]\n"
      TFQ_DECODE
      "add %[group], %[group], #64\n"
      "subs %[channels], %[channels], #16\n"
      "b.eq 2f\n"
      "1:\n"
      TFQ_LANE("0", "28", "24", "", "", "", "", "", "", "", "")
      TFQ_LANE("1", "29", "25",
               "ldr q24, [%[group], xzr]\n",
               "ldr q28, [%[group], x10]\n", "", "", "", "", "", "")
      TFQ_LANE("2", "30", "26",
               "ldr q25, [%[group], x9]\n",
               "ldr q29, [%[group], x11]\n", "", "", "", "", "", "")
      TFQ_LANE("3", "31", "27",
               "ldr q16, [x0, x8]\n",
               "ldr q17, [x1, x8]\n",
               "ldr q18, [x2, x8]\n",
               "ldr q19, [x3, x8]\n",
               "ldr q20, [x4, x8]\n",
               "ldr q21, [x5, x8]\n",
               "ldr q22, [x6, x8]\n",
               "ldr q23, [x7, x8]\n")
      TFQ_DECODE
      "add %[group], %[group], #64\n"
      "add x8, x8, #16\n"
      "subs %[channels], %[channels], #16\n"
      "b.ne 1b\n"
      "2:\n"
      TFQ_LANE("0", "28", "24", "", "", "", "", "", "", "", "")
      TFQ_LANE("1", "29", "25", "", "", "", "", "", "", "", "")
      TFQ_LANE("2", "30", "26", "", "", "", "", "", "", "", "")
      TFQ_LANE("3", "31", "27", "", "", "", "", "", "", "", "")
      "stp q0, q1, [%[sums]]\n"
      "stp q2, q3, [%[sums], #32]\n"
      "stp q4, q5, [%[sums], #64]\n"
      "stp q6, q7, [%[sums], #96]\n"
      "stp q8, q9, [%[sums], #128]\n"
      "stp q10, q11, [%[sums], #160]\n"
      "stp q12, q13, [%[sums], #192]\n"
      "stp q14, q15, [%[sums], #224]\n"
      : [group] "+r"(group), [channels] "+r"(channels)
      : [rows] "r"(rows), [sums] "r"(sums)
      : "cc", "memory", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "v0", "v1", "v2",
        "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19",
        "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

#undef TFQ_ROW
#undef TFQ_LANE
#undef TFQ_DECODE

template <bool k16Fold, int kRows>
inline void AddGroups(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group, RowSums (&sums)[kRows]) {
  const uint32_t steps = static_cast<uint32_t>(shape.channels) / kStepChannels;
  const int32_t tail = static_cast<int32_t>(static_cast<uint32_t>(shape.channels) % kStepChannels);
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    int8x16_t a[kRows];
    ptrdiff_t c = 0;
    if (kRows == kMr && k16Fold) {
      if (steps != 0) AddSteps(rows, steps * kStepChannels, group, sums);
      group += steps * 4 * kGroupBytes;
      c = steps * kStepChannels;
    } else {
      for (uint32_t left = steps; left != 0; --left, c += kStepChannels, group += 4 * kGroupBytes) {
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) a[m] = vld1q_s8(rows[m] + c);
        AddLane<k16Fold, 0>(group, a, sums);
        AddLane<k16Fold, 1>(group + kGroupBytes, a, sums);
        AddLane<k16Fold, 2>(group + 2 * kGroupBytes, a, sums);
        AddLane<k16Fold, 3>(group + 3 * kGroupBytes, a, sums);
      }
    }
    int32_t left = tail;
    if (left >= 8) {
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) a[m] = vcombine_s8(vld1_s8(rows[m] + c), vdup_n_s8(0));
      AddLane<k16Fold, 0>(group, a, sums);
      AddLane<k16Fold, 1>(group + kGroupBytes, a, sums);
      left -= 8;
      c += 8;
      group += 2 * kGroupBytes;
    }
    for (; left > 0; left -= kKr, c += kKr, group += kGroupBytes) {
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) {
        const uint32_t four = static_cast<uint32_t>(LoadPart(rows[m] + c, left < kKr ? left : kKr));
        a[m] = vreinterpretq_s8_u32(vdupq_n_u32(four));
      }
      AddLane<k16Fold, 0>(group, a, sums);
    }
  }
}

// The sums of eight output channels, with their bias.
template <bool k16Fold, int kRows>
inline void SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* block,
                     int32x4_t (&total)[kRows][2]) {
  const int32_t* bias = reinterpret_cast<const int32_t*>(block);
  const int32x4_t low = vld1q_s32(bias), high = vld1q_s32(bias + 4);
  RowSums sums[kRows];
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    sums[m].low = k16Fold ? vdupq_n_s32(0) : low;
    sums[m].high = high;
  }
  AddGroups<k16Fold>(shape, rows, block + ChannelSectionBytes(kNr), sums);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    total[m][0] = k16Fold ? vsraq_n_s32(low, sums[m].low, 4) : sums[m].low;
    total[m][1] = sums[m].high;
  }
}

template <int kRows, bool k16Fold>
void RunRows(const GemmShape shape, const GemmTile tile) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  for (auto at = BlocksOf(kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    int32x4_t sums[kRows][2];
    SumBlock<k16Fold>(shape, tile.rows, at.packed, sums);
    const int32_t* multiplier = reinterpret_cast<const int32_t*>(at.packed) + kNr;
    const ScaleNeon<2> scale(multiplier, multiplier + kNr, at.n, ties_away_begin);
    ScaleRowsNeon(sums, scale, scale.OnlyRight(), form);
    StoreRowsNeon(sums, stage, tile.m, tile.n_end - at.n, at.out, tile.out_stride);
  }
}

template <int kRows>
void RunDepth(const GemmShape& shape, const GemmTile& tile) {
  const int64_t depth = int64_t{shape.taps} * shape.channels;
  if (depth >= kMinDepth16Fold && depth <= kMaxDepth16Fold) {
    RunRows<kRows, true>(shape, tile);
  } else {
    RunRows<kRows, false>(shape, tile);
  }
}

void Run(const GemmShape& shape, const GemmTile& tile) {
  switch (tile.m) {
    case 1:
      return RunDepth<1>(shape, tile);
    case 2:
      return RunDepth<2>(shape, tile);
    case 3:
      return RunDepth<3>(shape, tile);
    case 4:
      return RunDepth<4>(shape, tile);
    case 5:
      return RunDepth<5>(shape, tile);
    case 6:
      return RunDepth<6>(shape, tile);
    case 7:
      return RunDepth<7>(shape, tile);
    default:
      return RunDepth<8>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_8x8c4_neon_dotprod = {
    "gemm_qs8_qs4cw_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
