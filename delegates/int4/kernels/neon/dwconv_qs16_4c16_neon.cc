// Depthwise convolution between 16-bit activations on NEON, for weights of either width: SMLAL and SMLAL2 add the
// products of a tap to 32-bit sums, which move to 64 bits before they could overflow. Weights are decoded once for four
// pixels.
#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/neon/wide_stage_neon.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_gemm.h"
#include "delegates/int4/packing/channel_blocks.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kPixelsTogether = 4;

int32_t BlockWidth(int32_t channels) { return ChannelBlockWidth(channels, 16); }

constexpr size_t SectionBytes(int32_t width) { return sizeof(WideChannel) * static_cast<size_t>(width); }

// Two taps.
constexpr size_t PairBytes(int32_t bits, int32_t width) { return static_cast<size_t>(width) * bits / 4; }

template <int32_t bits>
size_t BlockBytes(const DepthwiseShape& shape) {
  const int32_t width = BlockWidth(shape.channels);
  return SectionBytes(width) + static_cast<size_t>((shape.taps + 1) / 2) * PairBytes(bits, width);
}

template <int32_t bits>
size_t PackedBytes(const DepthwiseShape& shape) {
  const int32_t blocks = ChannelBlockCount(shape.channels, BlockWidth(shape.channels));
  return RoundUp(static_cast<size_t>(blocks) * BlockBytes<bits>(shape), kPackedAlignment);
}

template <int32_t bits>
void Pack(const DepthwiseShape& shape, const WideWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  const int32_t width = BlockWidth(shape.channels);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, width); ++b, block += BlockBytes<bits>(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, width, b);
    uint8_t* weights = block + SectionBytes(width);
    for (int32_t i = 0; i < width && begin + i < shape.channels; ++i) {
      std::memcpy(block + SectionBytes(i), source.channels + begin + i, sizeof(WideChannel));
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int32_t value = ValueAt(source.values, static_cast<size_t>(tap) * shape.channels + begin + i);
        if (bits == 8) {
          weights[tap * width + i] = static_cast<uint8_t>(value);
        } else {
          weights[tap / 2 * width + i] |= static_cast<uint8_t>((value & 15) << (tap % 2 * 4));
        }
      }
    }
  }
}

// A tap's values or weights of kWidth channels.
template <int kWidth>
struct Channels {
  int16x8_t of[kWidth / 8];
};

// Only below eight channels `valid` is less than kWidth.
template <int kWidth>
inline Channels<kWidth> LoadRow(const int16_t* from, int32_t valid) {
  if constexpr (kWidth == 16) return {{vld1q_s16(from), vld1q_s16(from + 8)}};
  return {{valid < kWidth ? LoadWidePartNeon(from, valid) : vld1q_s16(from)}};
}

template <int32_t bits, int kWidth, bool kOdd>
inline Channels<kWidth> LoadWeights(const uint8_t* weights, int32_t tap) {
  const uint8_t* from = weights + (bits == 8 ? tap : tap / 2) * kWidth;
  int8x8_t bytes[kWidth / 8];
  Channels<kWidth> loaded;
  TFQ_UNROLL
  for (int v = 0; v < kWidth / 8; ++v) {
    bytes[v] = vreinterpret_s8_u8(vld1_u8(from + 8 * v));
    if (bits == 4) bytes[v] = vshr_n_s8(kOdd ? bytes[v] : vshl_n_s8(bytes[v], 4), 4);
    loaded.of[v] = vmovl_s8(bytes[v]);
  }
  return loaded;
}

template <int kPixels, int kWidth>
inline void Widen(int32x4_t (&sums)[kPixels][kWidth / 4], int64_t (&wide)[kPixels][kWidth]) {
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < kWidth / 4; ++v) {
      int64_t* to = wide[p] + 4 * v;
      vst1q_s64(to, vaddw_s32(vld1q_s64(to), vget_low_s32(sums[p][v])));
      vst1q_s64(to + 2, vaddw_high_s32(vld1q_s64(to + 2), sums[p][v]));
      sums[p][v] = vdupq_n_s32(0);
    }
  }
}

// Channels begin .. begin + valid of kPixels pixels.
template <int32_t bits, int kPixels, int kWidth>
void RunPixels(const DepthwiseShape& shape, const int16_t* const* rows, const uint8_t* block, int32_t begin,
               int32_t valid, const WideStage& stage, int16_t* out, ptrdiff_t out_stride) {
  int64_t wide[kPixels][kWidth] = {};
  int32x4_t sums[kPixels][kWidth / 4];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < kWidth / 4; ++v) sums[p][v] = vdupq_n_s32(0);
  }
  const auto add = [&](int32_t tap, auto odd) {
    const Channels<kWidth> weights = LoadWeights<bits, kWidth, odd.value>(block + SectionBytes(kWidth), tap);
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const Channels<kWidth> row = LoadRow<kWidth>(rows[ptrdiff_t(p) * shape.taps + tap] + begin, valid);
      TFQ_UNROLL
      for (int v = 0; v < kWidth / 8; ++v) {
        sums[p][2 * v] = vmlal_s16(sums[p][2 * v], vget_low_s16(weights.of[v]), vget_low_s16(row.of[v]));
        sums[p][2 * v + 1] = vmlal_high_s16(sums[p][2 * v + 1], weights.of[v], row.of[v]);
      }
    }
  };
  constexpr int32_t kTapsIn32Bits = ProductsIn32Bits(bits) / 2 * 2;
  for (int32_t tap = 0; tap < shape.taps;) {
    const int32_t end = shape.taps - tap < kTapsIn32Bits ? shape.taps : tap + kTapsIn32Bits;
    for (; tap + 2 <= end; tap += 2) {
      add(tap, std::false_type());
      add(tap + 1, std::true_type());
    }
    if (tap < end) add(tap++, std::false_type());
    Widen(sums, wide);
  }
  ApplyWideRowsNeon(wide[0], kWidth, kPixels, reinterpret_cast<const WideChannel*>(block), valid, stage, out,
                    out_stride);
}

template <int32_t bits, int kWidth>
void RunWidth(const DepthwiseShape& shape, const WideDepthwiseTile& tile) {
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed);
  const int32_t valid = shape.channels < kWidth ? shape.channels : kWidth;
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, kWidth); ++b, block += BlockBytes<bits>(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, kWidth, b);
    const auto rows = [&](int32_t p) { return tile.rows + ptrdiff_t(p) * shape.taps; };
    const auto out = [&](int32_t p) { return tile.out + p * tile.out_stride + begin; };
    int32_t p = 0;
    for (; p + kPixelsTogether <= tile.pixels; p += kPixelsTogether) {
      RunPixels<bits, kPixelsTogether, kWidth>(shape, rows(p), block, begin, valid, tile.stage, out(p),
                                               tile.out_stride);
    }
    for (; p < tile.pixels; ++p) {
      RunPixels<bits, 1, kWidth>(shape, rows(p), block, begin, valid, tile.stage, out(p), tile.out_stride);
    }
  }
}

template <int32_t bits>
void Run(const DepthwiseShape& shape, const WideDepthwiseTile& tile) {
  BlockWidth(shape.channels) == 16 ? RunWidth<bits, 16>(shape, tile) : RunWidth<bits, 8>(shape, tile);
}

}  // namespace

const WideDepthwiseKernel dwconv_qs16_qs4cw_4c16_neon = {
    "dwconv_qs16_qs4cw_4c16_neon", CpuTier::kNeon, kQs4cw, PackedBytes<4>, Pack<4>, Run<4>,
};

const WideDepthwiseKernel dwconv_qs16_qs8cw_4c16_neon = {
    "dwconv_qs16_qs8cw_4c16_neon", CpuTier::kNeon, kQs8cw, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
