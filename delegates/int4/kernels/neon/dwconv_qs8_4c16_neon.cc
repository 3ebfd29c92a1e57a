// Depthwise convolution on NEON, over blocks of 16 or 8 channels. A product of int4 and int8 is at most 1024, so 31
// taps fit the 16-bit sums of SMLAL before they are widened; of 8-bit weights two do. The nine weights of a 3x3 window
// are decoded once for all pixels of a tile and stay in registers; those of other windows are decoded once for four
// pixels.
#include <arm_neon.h>

#include <cstring>

#include "delegates/int4/kernels/neon/lowest_weight.h"
#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/channel_blocks.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

// Weights of so many bits, and how many taps' products fit a 16-bit sum: an even number, or one.
template <int32_t bits, int32_t taps_in_16_bits>
struct Weights {
  static constexpr int32_t kBits = bits;
  static constexpr int32_t kTapsIn16Bits = taps_in_16_bits;
  static constexpr size_t kHeaderBytes = bits == 8 ? kLowestWeightBytes : 0;
};
using Int4 = Weights<4, 30>;
using Int8 = Weights<8, 2>;
using AnyInt8 = Weights<8, 1>;  // -128 among them

int32_t BlockWidth(int32_t channels) { return ChannelBlockWidth(channels, 16); }

int32_t TapPairs(const DepthwiseShape& shape) { return (shape.taps + 1) / 2; }

constexpr size_t PairBytes(int32_t bits, int32_t width) { return size_t(width) * bits / 4; }

template <typename W>
size_t BlockBytes(const DepthwiseShape& shape) {
  const int32_t width = BlockWidth(shape.channels);
  return ChannelSectionBytes(width) + TapPairs(shape) * PairBytes(W::kBits, width);
}

template <typename W>
size_t PackedBytes(const DepthwiseShape& shape) {
  const int32_t blocks = ChannelBlockCount(shape.channels, BlockWidth(shape.channels));
  return RoundUp(W::kHeaderBytes + blocks * BlockBytes<W>(shape), kPackedAlignment);
}

// A pair of taps takes one byte a channel at 4 bits, the even tap in the low nibble, the odd one in the high nibble; at
// 8 bits one byte a channel for the even tap, then one for the odd tap.
template <typename W>
void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes<W>(shape));
  if (W::kBits == 8) WriteLowestWeight(source.values, size_t(shape.taps) * shape.channels, packed);
  const int32_t width = BlockWidth(shape.channels);
  const int32_t blocks = ChannelBlockCount(shape.channels, width);
  uint8_t* block = static_cast<uint8_t*>(packed) + W::kHeaderBytes;
  for (int32_t b = 0; b < blocks; ++b, block += BlockBytes<W>(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, width, b);
    uint8_t* weights = block + ChannelSectionBytes(width);
    int32_t sums[16] = {};
    for (int32_t i = 0; i < width && begin + i < shape.channels; ++i) {
      sums[i] = SumOfWeights(source.values, begin + i, shape.taps, shape.channels);
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int32_t value = ValueAt(source.values, size_t(tap) * shape.channels + begin + i);
        if (W::kBits == 8) {
          weights[tap * width + i] = static_cast<uint8_t>(value);
        } else {
          weights[tap / 2 * width + i] |= static_cast<uint8_t>((value & 15) << (tap % 2 * 4));
        }
      }
    }
    WriteChannelSection(source, begin, shape.channels, width, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

// One load of activations: a block of 8 fills the lower half, and only below eight channels `valid` is less.
template <int kWidth>
inline int8x16_t LoadChannels(const int8_t* from, int32_t valid) {
  if (kWidth == 16) return vld1q_s8(from);
  return vcombine_s8(valid >= 8 ? vld1_s8(from) : LoadPartNeon(from, valid), vdup_n_s8(0));
}

struct TapPair {
  int8x16_t even;
  int8x16_t odd;
};

template <int kWidth>
inline int8x16_t LoadWeights(const uint8_t* from) {
  const int8_t* bytes = reinterpret_cast<const int8_t*>(from);
  return kWidth == 16 ? vld1q_s8(bytes) : vcombine_s8(vld1_s8(bytes), vdup_n_s8(0));
}

template <typename W, int kWidth>
inline TapPair DecodeWeights(const uint8_t* weights, int32_t pair) {
  const uint8_t* from = weights + pair * PairBytes(W::kBits, kWidth);
  const int8x16_t first = LoadWeights<kWidth>(from);
  if (W::kBits == 8) return {first, LoadWeights<kWidth>(from + kWidth)};
  return {vshrq_n_s8(vshlq_n_s8(first, 4), 4), vshrq_n_s8(first, 4)};
}

template <int kWidth>
struct Narrow {
  int16x8_t sums[kWidth / 8];
};

template <int kWidth>
inline void StartSums(int8x16_t weights, int8x16_t a, Narrow<kWidth>& narrow) {
  narrow.sums[0] = vmull_s8(vget_low_s8(weights), vget_low_s8(a));
  if (kWidth == 16) narrow.sums[kWidth / 8 - 1] = vmull_high_s8(weights, a);
}

template <int kWidth>
inline void AddProducts(int8x16_t weights, int8x16_t a, Narrow<kWidth>& narrow) {
  narrow.sums[0] = vmlal_s8(narrow.sums[0], vget_low_s8(weights), vget_low_s8(a));
  if (kWidth == 16) narrow.sums[kWidth / 8 - 1] = vmlal_high_s8(narrow.sums[kWidth / 8 - 1], weights, a);
}

template <int kWidth>
inline void Widen(const Narrow<kWidth>& narrow, int32x4_t (&wide)[kWidth / 4]) {
  TFQ_UNROLL
  for (int v = 0; v < kWidth / 8; ++v) {
    wide[2 * v] = vaddw_s16(wide[2 * v], vget_low_s16(narrow.sums[v]));
    wide[2 * v + 1] = vaddw_high_s16(wide[2 * v + 1], narrow.sums[v]);
  }
}

// A block of channels of one layer, and where its outputs go.
template <int kWidth>
struct Block {
  const int32_t* bias;
  const uint8_t* weights;
  int32_t begin;  // first channel
  int32_t valid;  // channels that are there
  ScaleNeon<kWidth / 4> scale;
  bool only_right;
  StageNeon stage;
  RoundingForm form;

  Block(const DepthwiseShape& shape, const DepthwiseTile& tile, const uint8_t* packed, int32_t first)
      : bias(reinterpret_cast<const int32_t*>(packed)),
        weights(packed + ChannelSectionBytes(kWidth)),
        begin(first),
        valid(shape.channels < kWidth ? shape.channels : kWidth),
        scale(bias + kWidth, bias + 2 * kWidth, first, TiesAwayBegin(tile.stage.rounding, shape.channels)),
        only_right(scale.OnlyRight()),
        stage(tile.stage),
        form(FormOf(tile.stage.rounding, shape.channels, begin + valid)) {}

  template <int kPixels>
  void Store(int32x4_t (&wide)[kPixels][kWidth / 4], int8_t* out, ptrdiff_t out_stride) const {
    ScaleRowsNeon(wide, scale, only_right, form);
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      int8_t* to = out + p * out_stride + begin;
      const int16x8_t low = stage.Words(wide[p][0], wide[p][1]);
      if (kWidth == 16) {
        vst1q_s8(to, stage.Clamp(low, stage.Words(wide[p][kWidth / 4 - 2], wide[p][kWidth / 4 - 1])));
      } else {
        StorePartNeon(to, stage.Clamp(low), valid);
      }
    }
  }
};

// The sums of a pixel: in 16 bits those of the last few taps.
template <typename W, int kWidth>
struct PixelSums {
  int32x4_t wide[kWidth / 4];
  Narrow<kWidth> narrow;

  void Start(const Block<kWidth>& block) {
    TFQ_UNROLL
    for (int v = 0; v < kWidth / 4; ++v) wide[v] = vld1q_s32(block.bias + 4 * v);
  }

  // Tap number `t` of those that are added up, the last of them or not. With `start`, sums begin with its biases where
  // the first of them are widened, which leaves registers to the taps before.
  void Add(int32_t t, bool last, int8x16_t weights, int8x16_t a, const Block<kWidth>* start = nullptr) {
    const int32_t place = t % W::kTapsIn16Bits;
    place == 0 ? StartSums<kWidth>(weights, a, narrow) : AddProducts<kWidth>(weights, a, narrow);
    if (!last && place + 1 != W::kTapsIn16Bits) return;
    if (start != nullptr && t < W::kTapsIn16Bits) Start(*start);
    Widen<kWidth>(narrow, wide);
  }
};

template <typename W, int kPixels, int kWidth>
inline void StorePixels(const PixelSums<W, kWidth> (&sums)[kPixels], const Block<kWidth>& block, int8_t* out,
                        ptrdiff_t out_stride) {
  int32x4_t wide[kPixels][kWidth / 4];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < kWidth / 4; ++v) wide[p][v] = sums[p].wide[v];
  }
  block.Store(wide, out, out_stride);
}

// kTaps weights in registers.
template <typename W, int kTaps, int kWidth>
struct HeldWeights {
  int8x16_t taps[kTaps + kTaps % 2];

  explicit HeldWeights(const uint8_t* weights) {
    TFQ_UNROLL
    for (int t = 0; t < kTaps; t += 2) {
      const TapPair pair = DecodeWeights<W, kWidth>(weights, t / 2);
      taps[t] = pair.even;
      taps[t + 1] = pair.odd;
    }
  }

  // Asks for them in whole registers in every turn of a loop. GCC would move their lower halves out of it, for which
  // there is no room.
  void KeepInRegisters() {
    TFQ_UNROLL
    for (int t = 0; t < kTaps; ++t) asm("" : "+w"(taps[t]));
  }
};

template <int kPixels, typename W, int kTaps, int kWidth>
inline void RunHeldPixels(HeldWeights<W, kTaps, kWidth>& held, const Block<kWidth>& block, const int8_t* const* rows,
                          int8_t* out, ptrdiff_t out_stride) {
  held.KeepInRegisters();
  PixelSums<W, kWidth> sums[kPixels];
  TFQ_UNROLL
  for (int t = 0; t < kTaps; t += 2) {
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const int8_t* first = rows[p * kTaps + t];
      const int8_t* second = t + 1 < kTaps ? rows[p * kTaps + t + 1] : nullptr;  // together: one LDP
      sums[p].Add(t, t + 1 == kTaps, held.taps[t], LoadChannels<kWidth>(first + block.begin, block.valid), &block);
      if (t + 1 < kTaps) {
        const int8x16_t a = LoadChannels<kWidth>(second + block.begin, block.valid);
        sums[p].Add(t + 1, t + 2 == kTaps, held.taps[t + 1], a, &block);
      }
    }
  }
  StorePixels(sums, block, out, out_stride);
}

template <int kTaps, typename W, int kWidth>
void RunHeld(const DepthwiseTile tile, const Block<kWidth>& block) {
  HeldWeights<W, kTaps, kWidth> held(block.weights);
  const int8_t* const* rows = tile.rows;
  int8_t* out = tile.out;
  int32_t p = 0;
  for (; p + 2 <= tile.pixels; p += 2, rows += 2 * kTaps, out += 2 * tile.out_stride) {
    RunHeldPixels<2>(held, block, rows, out, tile.out_stride);
  }
  if (p < tile.pixels) RunHeldPixels<1>(held, block, rows, out, tile.out_stride);
}

// Adds the taps of pairs pair..end-1, whose products fit 16 bits; an odd last tap has no partner.
template <typename W, int kPixels, int kWidth>
inline void AddPairs(const DepthwiseShape& shape, const Block<kWidth>& block, const int8_t* const* rows, int32_t pair,
                     int32_t end, PixelSums<W, kWidth> (&sums)[kPixels]) {
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < kWidth / 8; ++v) sums[p].narrow.sums[v] = vdupq_n_s16(0);
  }
  const bool odd = 2 * end > shape.taps;
  for (const int32_t whole = odd ? end - 1 : end; pair < whole; ++pair) {
    const TapPair weights = DecodeWeights<W, kWidth>(block.weights, pair);
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const int8_t* const* taps = rows + ptrdiff_t(p) * shape.taps + 2 * pair;
      AddProducts<kWidth>(weights.even, LoadChannels<kWidth>(taps[0] + block.begin, block.valid), sums[p].narrow);
      AddProducts<kWidth>(weights.odd, LoadChannels<kWidth>(taps[1] + block.begin, block.valid), sums[p].narrow);
    }
  }
  if (odd) {
    const TapPair weights = DecodeWeights<W, kWidth>(block.weights, pair);
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const int8_t* row = rows[ptrdiff_t(p) * shape.taps + 2 * pair];
      AddProducts<kWidth>(weights.even, LoadChannels<kWidth>(row + block.begin, block.valid), sums[p].narrow);
    }
  }
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) Widen<kWidth>(sums[p].narrow, sums[p].wide);
}

// Adds one pair of taps at 8 bits.
template <typename W, int kPixels, int kWidth>
inline void AddPair(const DepthwiseShape& shape, const Block<kWidth>& block, const int8_t* const* rows, int32_t pair,
                    PixelSums<W, kWidth> (&sums)[kPixels]) {
  const TapPair weights = DecodeWeights<W, kWidth>(block.weights, pair);
  const bool partner = 2 * pair + 1 < shape.taps;
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    const int8_t* const* taps = rows + ptrdiff_t(p) * shape.taps + 2 * pair;
    const int8x16_t first = LoadChannels<kWidth>(taps[0] + block.begin, block.valid);
    // The weight of a partner that is not there is zero.
    const int8x16_t second = LoadChannels<kWidth>(taps[partner] + block.begin, block.valid);
    sums[p].Add(0, false, weights.even, first);
    sums[p].Add(1, true, weights.odd, second);
  }
}

template <int kPixels, typename W, int kWidth>
inline void RunPixels(const DepthwiseShape& shape, const Block<kWidth>& block, const int8_t* const* rows, int8_t* out,
                      ptrdiff_t out_stride) {
  PixelSums<W, kWidth> sums[kPixels];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) sums[p].Start(block);
  const int32_t pairs = TapPairs(shape);
  if (W::kBits == 8) {
    for (int32_t pair = 0; pair < pairs; ++pair) AddPair(shape, block, rows, pair, sums);
  } else {
    constexpr int32_t kPairsIn16Bits = W::kTapsIn16Bits / 2;
    for (int32_t pair = 0; pair < pairs; pair += kPairsIn16Bits) {
      AddPairs(shape, block, rows, pair, pairs - pair < kPairsIn16Bits ? pairs : pair + kPairsIn16Bits, sums);
    }
  }
  StorePixels(sums, block, out, out_stride);
}

template <typename W, int kWidth>
void RunDecoded(const DepthwiseShape& shape, const DepthwiseTile& tile, const Block<kWidth>& block) {
  const int8_t* const* rows = tile.rows;
  int8_t* out = tile.out;
  int32_t p = 0;
  for (; p + 4 <= tile.pixels; p += 4, rows += 4 * ptrdiff_t(shape.taps), out += 4 * tile.out_stride) {
    RunPixels<4, W>(shape, block, rows, out, tile.out_stride);
  }
  for (; p < tile.pixels; ++p, rows += shape.taps, out += tile.out_stride) {
    RunPixels<1, W>(shape, block, rows, out, tile.out_stride);
  }
}

template <typename W, int kWidth>
void RunWidth(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed) + W::kHeaderBytes;
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, kWidth); ++b, packed += BlockBytes<W>(shape)) {
    const Block<kWidth> block(shape, tile, packed, ChannelBlockBegin(shape.channels, kWidth, b));
    if (shape.taps == 9) {
      RunHeld<9, W>(tile, block);
    } else {
      RunDecoded<W>(shape, tile, block);
    }
  }
}

template <typename W>
void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  if (BlockWidth(shape.channels) == 16) {
    RunWidth<W, 16>(shape, tile);
  } else {
    RunWidth<W, 8>(shape, tile);
  }
}

void RunInt8(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  HasLowestWeight(tile.packed) ? Run<AnyInt8>(shape, tile) : Run<Int8>(shape, tile);
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs4cw_4c16_neon = {
    "dwconv_qs8_qs4cw_4c16_neon", CpuTier::kNeon, kQs4cw, PackedBytes<Int4>, Pack<Int4>, Run<Int4>,
};

const DepthwiseKernel dwconv_qs8_qs8cw_4c16_neon = {
    "dwconv_qs8_qs8cw_4c16_neon", CpuTier::kNeon, kQs8cw, PackedBytes<Int8>, Pack<Int8>, RunInt8,
};

}  // namespace tfq::int4
