// Depthwise convolution on NEON: two pixels at a time over blocks of 16 or 8 channels. A product of int4 and int8 is at
// most 1024, so 31 taps fit the 16-bit sums of SMLAL before they are widened.
#include <arm_neon.h>

#include <cstring>

#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/channel_blocks.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kPairsIn16Bits = 15;

int32_t BlockWidth(int32_t channels) { return ChannelBlockWidth(channels, 16); }

int32_t TapPairs(const DepthwiseShape& shape) { return (shape.taps + 1) / 2; }

size_t BlockBytes(const DepthwiseShape& shape) {
  const int32_t width = BlockWidth(shape.channels);
  return ChannelSectionBytes(width) + size_t(TapPairs(shape)) * width;
}

size_t PackedBytes(const DepthwiseShape& shape) {
  const int32_t blocks = ChannelBlockCount(shape.channels, BlockWidth(shape.channels));
  return RoundUp(blocks * BlockBytes(shape), kPackedAlignment);
}

// A pair of taps takes one byte a channel: the even tap in the low nibble, the odd one in the high nibble.
void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const int32_t width = BlockWidth(shape.channels);
  const int32_t blocks = ChannelBlockCount(shape.channels, width);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t b = 0; b < blocks; ++b, block += BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, width, b);
    uint8_t* weights = block + ChannelSectionBytes(width);
    int32_t sums[16] = {};
    for (int32_t i = 0; i < width && begin + i < shape.channels; ++i) {
      sums[i] = SumOfWeights(source.values, begin + i, shape.taps, shape.channels);
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int32_t value = ValueAt(source.values, size_t(tap) * shape.channels + begin + i) & 15;
        weights[tap / 2 * width + i] |= static_cast<uint8_t>(value << (tap % 2 * 4));
      }
    }
    WriteChannelSection(source, begin, shape.channels, width, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

// One load of activations or weights: a block of 8 fills the lower half, and only below eight channels `valid` is less.
template <int kWidth>
inline int8x16_t LoadChannels(const int8_t* from, int32_t valid) {
  if (kWidth == 16) return vld1q_s8(from);
  return vcombine_s8(valid >= 8 ? vld1_s8(from) : LoadPartNeon(from, valid), vdup_n_s8(0));
}

template <int kWidth>
inline void AddProducts(int8x16_t weights, int8x16_t a, int16x8_t (&narrow)[kWidth / 8]) {
  narrow[0] = vmlal_s8(narrow[0], vget_low_s8(weights), vget_low_s8(a));
  if (kWidth == 16) narrow[kWidth / 8 - 1] = vmlal_high_s8(narrow[kWidth / 8 - 1], weights, a);
}

template <int kWidth, int kPixels, RoundingForm form>
void RunPixels(const DepthwiseShape& shape, const uint8_t* block, const int8_t* const* rows, int32_t begin,
               int32_t valid, int8_t* out, ptrdiff_t out_stride, const OutputStage& stage) {
  constexpr int kHalves = kWidth / 8;
  const int32_t ties_away_begin = TiesAwayBegin(stage.rounding, shape.channels);
  const int32_t* bias = reinterpret_cast<const int32_t*>(block);
  const int8_t* weights = reinterpret_cast<const int8_t*>(block + ChannelSectionBytes(kWidth));
  int32x4_t wide[kPixels][2 * kHalves];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < 2 * kHalves; ++v) wide[p][v] = vld1q_s32(bias + 4 * v);
  }
  const int32_t whole = shape.taps / 2;
  for (int32_t pair = 0; pair < TapPairs(shape);) {
    int16x8_t narrow[kPixels][kHalves];
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      TFQ_UNROLL
      for (int v = 0; v < kHalves; ++v) narrow[p][v] = vdupq_n_s16(0);
    }
    const int32_t end = whole - pair < kPairsIn16Bits ? whole : pair + kPairsIn16Bits;
    for (; pair < end; ++pair) {
      const int8x16_t bytes = LoadChannels<kWidth>(weights + pair * kWidth, kWidth);
      const int8x16_t even = vshrq_n_s8(vshlq_n_s8(bytes, 4), 4);
      const int8x16_t odd = vshrq_n_s8(bytes, 4);
      TFQ_UNROLL
      for (int p = 0; p < kPixels; ++p) {
        const int8_t* const* taps = rows + ptrdiff_t(p) * shape.taps + 2 * pair;
        AddProducts<kWidth>(even, LoadChannels<kWidth>(taps[0] + begin, valid), narrow[p]);
        AddProducts<kWidth>(odd, LoadChannels<kWidth>(taps[1] + begin, valid), narrow[p]);
      }
    }
    if (pair == whole && shape.taps % 2 != 0) {
      const int8x16_t bytes = LoadChannels<kWidth>(weights + pair * kWidth, kWidth);
      const int8x16_t even = vshrq_n_s8(vshlq_n_s8(bytes, 4), 4);
      TFQ_UNROLL
      for (int p = 0; p < kPixels; ++p) {
        const int8_t* row = rows[ptrdiff_t(p) * shape.taps + 2 * pair];
        AddProducts<kWidth>(even, LoadChannels<kWidth>(row + begin, valid), narrow[p]);
      }
      ++pair;
    }
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      TFQ_UNROLL
      for (int v = 0; v < kHalves; ++v) {
        wide[p][2 * v] = vaddw_s16(wide[p][2 * v], vget_low_s16(narrow[p][v]));
        wide[p][2 * v + 1] = vaddw_high_s16(wide[p][2 * v + 1], narrow[p][v]);
      }
    }
  }
  const int32_t* multiplier = bias + kWidth;
  const int32_t* shift = multiplier + kWidth;
  TFQ_UNROLL
  for (int v = 0; v < kHalves; ++v) {
    const int32_t i = 8 * v;
    const ScaleNeon scales[2] = {LoadScaleNeon(multiplier + i, shift + i, begin + i, ties_away_begin),
                                 LoadScaleNeon(multiplier + i + 4, shift + i + 4, begin + i + 4, ties_away_begin)};
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const int32x4_t low = ApplyOutputStageNeon<form>(wide[p][2 * v], scales[0], stage);
      const int32x4_t high = ApplyOutputStageNeon<form>(wide[p][2 * v + 1], scales[1], stage);
      StorePartNeon(out + p * out_stride + begin + i, NarrowNeon(low, high), valid);
    }
  }
}

template <int kWidth, RoundingForm form>
void RunBlock(const DepthwiseShape& shape, const DepthwiseTile& tile, const uint8_t* block, int32_t begin,
              int32_t valid) {
  const int8_t* const* rows = tile.rows;
  int8_t* out = tile.out;
  int32_t p = 0;
  for (; p + 2 <= tile.pixels; p += 2, rows += 2 * ptrdiff_t(shape.taps), out += 2 * tile.out_stride) {
    RunPixels<kWidth, 2, form>(shape, block, rows, begin, valid, out, tile.out_stride, tile.stage);
  }
  if (p < tile.pixels) {
    RunPixels<kWidth, 1, form>(shape, block, rows, begin, valid, out, tile.out_stride, tile.stage);
  }
}

template <int kWidth>
void RunWidth(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const int32_t channels = shape.channels;
  const int32_t valid = channels < kWidth ? channels : kWidth;
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed);
  for (int32_t b = 0; b < ChannelBlockCount(channels, kWidth); ++b, block += BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(channels, kWidth, b);
    switch (FormOf(tile.stage.rounding, channels, begin + valid)) {
      case RoundingForm::kSingle:
        RunBlock<kWidth, RoundingForm::kSingle>(shape, tile, block, begin, valid);
        break;
      case RoundingForm::kUpward:
        RunBlock<kWidth, RoundingForm::kUpward>(shape, tile, block, begin, valid);
        break;
      case RoundingForm::kAway:
        RunBlock<kWidth, RoundingForm::kAway>(shape, tile, block, begin, valid);
        break;
    }
  }
}

void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  if (BlockWidth(shape.channels) == 16) {
    RunWidth<16>(shape, tile);
  } else {
    RunWidth<8>(shape, tile);
  }
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs4cw_2c16_neon = {
    "dwconv_qs8_qs4cw_2c16_neon", CpuTier::kNeon, kQs4cw, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
