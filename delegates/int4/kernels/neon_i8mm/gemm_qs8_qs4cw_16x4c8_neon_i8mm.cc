// GEMM on NEON with matrix products (Cortex-X2, Neoverse V1). SMMLA multiplies eight channels of two rows with those of
// two output channels, so rows are brought together in pairs once for a tile, in the scratch memory. Decoding costs two
// shifts for eight rows' sixteen products: the low nibble stays at the top of its byte, as in the SDOT kernel, and is
// shifted down too where the 16-fold sums would not fit.
#include <arm_neon.h>

#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/gemm_blocks.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 16;
constexpr int32_t kNr = 4;
constexpr int32_t kKr = 8;
constexpr BlockLayout kLayout = {kNr, kKr, 4};
constexpr size_t kGroupBytes = GroupBytes(kLayout);
constexpr size_t kPairBytes = 2 * kKr;  // two rows, eight channels
constexpr int64_t kMaxDepth16Fold = 1 << 16;

size_t PackedBytes(const GemmShape& shape) { return PackedBytesOf(kLayout, shape); }

size_t ScratchBytes(const GemmShape& shape) {
  return RoundUp(GroupsOf(kLayout, shape) * kMr / 2 * kPairBytes, kPackedAlignment);
}

void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(kLayout, shape, source, packed);
}

// Writes [group][pair of rows][row][channel of the group]; what a tap lacks to whole groups is zero.
template <int kPairs>
void PairRows(const GemmShape& shape, const int8_t* const* rows, int8_t* to) {
  constexpr ptrdiff_t kStride = kPairs * kPairBytes;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    for (int pair = 0; pair < kPairs; ++pair) {
      const int8_t* first = rows[2 * pair];
      const int8_t* second = rows[2 * pair + 1];
      int8_t* out = to + pair * kPairBytes;
      int32_t c = 0;
      for (; c + 2 * kKr <= shape.channels; c += 2 * kKr, out += 2 * kStride) {
        const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(first + c)), b = vreinterpretq_s64_s8(vld1q_s8(second + c));
        vst1q_s8(out, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
        vst1q_s8(out + kStride, vreinterpretq_s8_s64(vzip2q_s64(a, b)));
      }
      for (; c < shape.channels; c += kKr, out += kStride) {
        const int32_t left = shape.channels - c < kKr ? shape.channels - c : kKr;
        vst1q_s8(out, vcombine_s8(LoadPartNeon(first + c, left), LoadPartNeon(second + c, left)));
      }
    }
    to += GroupsOfTap(kLayout, shape) * kStride;
  }
}

// Of two rows: [row][output channel], of channels 0, 1 and 2, 3 of a block.
struct PairSums {
  int32x4_t low;
  int32x4_t high;
};

template <bool k16Fold, int kPairs>
inline void SumBlock(const int8_t* a, size_t groups, const uint8_t* group, int32x4_t bias,
                     int32x4_t (&total)[2 * kPairs][1]) {
  PairSums sums[kPairs];
  TFQ_UNROLL
  for (int pair = 0; pair < kPairs; ++pair) sums[pair].low = sums[pair].high = vdupq_n_s32(0);
  for (; groups != 0; --groups, group += kGroupBytes, a += kPairs * kPairBytes) {
    const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(group));
    const int8x16_t shifted = vshlq_n_s8(bytes, 4);
    const int8x16_t low = k16Fold ? shifted : vshrq_n_s8(shifted, 4);
    const int8x16_t high = vshrq_n_s8(bytes, 4);
    TFQ_UNROLL
    for (int pair = 0; pair < kPairs; ++pair) {
      const int8x16_t rows = vld1q_s8(a + pair * kPairBytes);
      sums[pair].low = vmmlaq_s32(sums[pair].low, rows, low);
      sums[pair].high = vmmlaq_s32(sums[pair].high, rows, high);
    }
  }
  TFQ_UNROLL
  for (int pair = 0; pair < kPairs; ++pair) {
    const int64x2_t low = vreinterpretq_s64_s32(k16Fold ? vshrq_n_s32(sums[pair].low, 4) : sums[pair].low);
    const int64x2_t high = vreinterpretq_s64_s32(sums[pair].high);
    total[2 * pair][0] = vaddq_s32(bias, vreinterpretq_s32_s64(vzip1q_s64(low, high)));
    total[2 * pair + 1][0] = vaddq_s32(bias, vreinterpretq_s32_s64(vzip2q_s64(low, high)));
  }
}

template <bool k16Fold, int kPairs>
void RunFold(const GemmShape shape, const GemmTile tile) {
  int8_t* a = static_cast<int8_t*>(tile.scratch);
  PairRows<kPairs>(shape, tile.rows, a);
  const size_t groups = GroupsOf(kLayout, shape);
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  for (auto at = BlocksOf(kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    const int32_t* section = reinterpret_cast<const int32_t*>(at.packed);
    int32x4_t sums[2 * kPairs][1];
    SumBlock<k16Fold, kPairs>(a, groups, at.packed + ChannelSectionBytes(kNr), vld1q_s32(section), sums);
    const ScaleNeon<1> scale(section + kNr, section + 2 * kNr, at.n, ties_away_begin);
    ScaleRowsNeon(sums, scale, scale.OnlyRight(), form);
    StoreFoursNeon(sums, stage, tile.m, tile.n_end - at.n, at.out, tile.out_stride);
  }
}

template <int kPairs>
void RunPairs(const GemmShape& shape, const GemmTile& tile) {
  if (int64_t{shape.taps} * shape.channels <= kMaxDepth16Fold) {
    RunFold<true, kPairs>(shape, tile);
  } else {
    RunFold<false, kPairs>(shape, tile);
  }
}

void Run(const GemmShape& shape, const GemmTile& tile) {
  switch ((tile.m + 1) / 2) {
    case 1:
      return RunPairs<1>(shape, tile);
    case 2:
      return RunPairs<2>(shape, tile);
    case 3:
      return RunPairs<3>(shape, tile);
    case 4:
      return RunPairs<4>(shape, tile);
    case 5:
      return RunPairs<5>(shape, tile);
    case 6:
      return RunPairs<6>(shape, tile);
    case 7:
      return RunPairs<7>(shape, tile);
    default:
      return RunPairs<8>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_16x4c8_neon_i8mm = {
    "gemm_qs8_qs4cw_16x4c8_neon_i8mm", CpuTier::kNeonI8mm, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run, ScratchBytes,
};

}  // namespace tfq::int4
