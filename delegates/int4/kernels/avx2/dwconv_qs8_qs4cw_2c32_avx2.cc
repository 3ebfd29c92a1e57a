// Depthwise convolution on AVX2: two pixels at a time over blocks of 32, 16 or 8 channels. Two taps are interleaved
// byte by byte, so that maddubs multiplies and adds both. Activations are moved to 0..255 (the packed bias takes the
// 128 off again) and weights are signed: a pair of products stays within 2 * 255 * 8, and eight pairs fit 16 bits
// before they are widened.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/avx2/output_stage_avx2.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/channel_blocks.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kPairsIn16Bits = 8;
constexpr int32_t kActivationOffset = 128;
constexpr int32_t kWeightOffset = 8;

int32_t BlockWidth(int32_t channels) { return ChannelBlockWidth(channels, 32); }

int32_t TapPairs(const DepthwiseShape& shape) { return (shape.taps + 1) / 2; }

size_t BlockBytes(const DepthwiseShape& shape) {
  const int32_t width = BlockWidth(shape.channels);
  return RoundUp(ChannelSectionBytes(width) + size_t(TapPairs(shape)) * width, kPackedAlignment);
}

size_t PackedBytes(const DepthwiseShape& shape) {
  return ChannelBlockCount(shape.channels, BlockWidth(shape.channels)) * BlockBytes(shape);
}

// Where channel i of a block and tap 0 or 1 of a pair lie among the block's bytes for that pair.
struct NibblePlace {
  int32_t byte;
  int32_t bit;
};

// Blocks of 16 and 32: in each 16 channels, bytes 2j and 2j + 1 hold both taps of channel j (low nibble) and of j + 8
// (high nibble), which is the order that unpacking two rows gives. A block of 8: byte i holds tap 0 (low) and tap 1
// (high) of channel i.
NibblePlace PlaceOf(int32_t width, int32_t i, int32_t tap) {
  if (width == 8) return {i, tap * 4};
  return {i / 16 * 16 + i % 8 * 2 + tap, i % 16 / 8 * 4};
}

void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const int32_t width = BlockWidth(shape.channels);
  const int32_t blocks = ChannelBlockCount(shape.channels, width);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t b = 0; b < blocks; ++b, block += BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, width, b);
    int32_t sums[32] = {};
    for (int32_t i = 0; i < width && begin + i < shape.channels; ++i) {
      sums[i] = SumOfWeights(source.values, begin + i, shape.taps, shape.channels);
    }
    WriteChannelSection(source, begin, shape.channels, width, source.input_zero_point + kActivationOffset, sums,
                        reinterpret_cast<int32_t*>(block));
    for (int32_t tap = 0; tap < 2 * TapPairs(shape); ++tap) {
      uint8_t* pair = block + ChannelSectionBytes(width) + tap / 2 * width;
      for (int32_t i = 0; i < width; ++i) {
        const bool used = tap < shape.taps && begin + i < shape.channels;
        const int32_t value = used ? ValueAt(source.values, size_t(tap) * shape.channels + begin + i) : 0;
        const NibblePlace place = PlaceOf(width, i, tap % 2);
        pair[place.byte] |= static_cast<uint8_t>((value + kWeightOffset) << place.bit);
      }
    }
  }
}

// The two taps of a pair, for one pixel; a last tap without a partner is paired with itself and a weight of zero.
inline const int8_t* FirstRow(const int8_t* const* rows, int32_t pair) { return rows[2 * pair]; }
inline const int8_t* SecondRow(const int8_t* const* rows, int32_t pair, int32_t taps) {
  return rows[2 * pair + 1 < taps ? 2 * pair + 1 : 2 * pair];
}

// A block of channels, the same for every pixel.
struct Block {
  const uint8_t* packed;
  int32_t begin;
  int32_t valid;            // below the width only when there are fewer than eight channels
  const ScaleAvx2* scales;  // one for every eight channels
};

template <int kPixels, StageForm form>
void RunPixels32(const DepthwiseShape& shape, const Block& block, const int8_t* const* rows, int8_t* out,
                 ptrdiff_t out_stride, const OutputStage& stage) {
  const int32_t begin = block.begin;
  const int32_t* bias = reinterpret_cast<const int32_t*>(block.packed);
  const uint8_t* weights = block.packed + ChannelSectionBytes(32);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i offset = _mm256_set1_epi8(kWeightOffset);
  const __m256i flip = _mm256_set1_epi8(-128);
  __m256i wide[kPixels][4];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < 4; ++v) wide[p][v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(bias + 8 * v));
  }
  const int32_t pairs = TapPairs(shape);
  for (int32_t pair = 0; pair < pairs;) {
    __m256i narrow[kPixels][2];
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) narrow[p][0] = narrow[p][1] = _mm256_setzero_si256();
    const int32_t end = pairs - pair < kPairsIn16Bits ? pairs : pair + kPairsIn16Bits;
    for (; pair < end; ++pair) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + pair * 32));
      const __m256i low = _mm256_sub_epi8(_mm256_and_si256(bytes, nibble), offset);
      const __m256i high = _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble), offset);
      TFQ_UNROLL
      for (int p = 0; p < kPixels; ++p) {
        const int8_t* const* taps = rows + ptrdiff_t(p) * shape.taps;
        const __m256i first =
            _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(FirstRow(taps, pair) + begin)), flip);
        const __m256i second = _mm256_xor_si256(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(SecondRow(taps, pair, shape.taps) + begin)), flip);
        const __m256i products_low = _mm256_maddubs_epi16(_mm256_unpacklo_epi8(first, second), low);
        const __m256i products_high = _mm256_maddubs_epi16(_mm256_unpackhi_epi8(first, second), high);
        narrow[p][0] = _mm256_add_epi16(narrow[p][0], products_low);
        narrow[p][1] = _mm256_add_epi16(narrow[p][1], products_high);
      }
    }
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      TFQ_UNROLL
      for (int v = 0; v < 4; ++v) {
        const __m256i from = narrow[p][v % 2];
        const __m128i words = v < 2 ? _mm256_castsi256_si128(from) : _mm256_extracti128_si256(from, 1);
        wide[p][v] = _mm256_add_epi32(wide[p][v], _mm256_cvtepi16_epi32(words));
      }
    }
  }
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    __m256i outputs[4];
    TFQ_UNROLL
    for (int v = 0; v < 4; ++v) outputs[v] = ApplyStageOfForm<form>(wide[p][v], block.scales[v], stage);
    __m128i* to = reinterpret_cast<__m128i*>(out + p * out_stride + begin);
    _mm_storeu_si128(to, ClampAvx2(NarrowAvx2(outputs[0], outputs[1]), stage));
    _mm_storeu_si128(to + 1, ClampAvx2(NarrowAvx2(outputs[2], outputs[3]), stage));
  }
}

template <int kWidth>
inline __m128i LoadChannels(const int8_t* from, int32_t valid) {
  if (kWidth == 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  if (valid >= 8) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  int64_t part = 0;
  std::memcpy(&part, from, valid);
  return _mm_cvtsi64_si128(part);
}

// Blocks of 16 and of 8 channels.
template <int kWidth, int kPixels, StageForm form>
void RunPixelsNarrow(const DepthwiseShape& shape, const Block& block, const int8_t* const* rows, int8_t* out,
                     ptrdiff_t out_stride, const OutputStage& stage) {
  constexpr int kVectors = kWidth / 8;
  const int32_t begin = block.begin, valid = block.valid;
  const int32_t* bias = reinterpret_cast<const int32_t*>(block.packed);
  const uint8_t* weights = block.packed + ChannelSectionBytes(kWidth);
  const __m128i nibble = _mm_set1_epi8(15);
  const __m128i offset = _mm_set1_epi8(kWeightOffset);
  const __m128i flip = _mm_set1_epi8(-128);
  __m256i wide[kPixels][kVectors];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) wide[p][v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(bias + 8 * v));
  }
  const int32_t pairs = TapPairs(shape);
  for (int32_t pair = 0; pair < pairs;) {
    __m128i narrow[kPixels][kVectors];
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      TFQ_UNROLL
      for (int v = 0; v < kVectors; ++v) narrow[p][v] = _mm_setzero_si128();
    }
    const int32_t end = pairs - pair < kPairsIn16Bits ? pairs : pair + kPairsIn16Bits;
    for (; pair < end; ++pair) {
      __m128i decoded[2];
      if (kWidth == 16) {
        const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(weights + pair * 16));
        decoded[0] = _mm_and_si128(bytes, nibble);
        decoded[1] = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
      } else {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(weights + pair * 8));
        const __m128i tap1 = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
        decoded[0] = decoded[1] = _mm_unpacklo_epi8(_mm_and_si128(bytes, nibble), tap1);
      }
      TFQ_UNROLL
      for (int p = 0; p < kPixels; ++p) {
        const int8_t* const* taps = rows + ptrdiff_t(p) * shape.taps;
        const __m128i first = _mm_xor_si128(LoadChannels<kWidth>(FirstRow(taps, pair) + begin, valid), flip);
        const __m128i second =
            _mm_xor_si128(LoadChannels<kWidth>(SecondRow(taps, pair, shape.taps) + begin, valid), flip);
        TFQ_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const __m128i both = v == 0 ? _mm_unpacklo_epi8(first, second) : _mm_unpackhi_epi8(first, second);
          narrow[p][v] = _mm_add_epi16(narrow[p][v], _mm_maddubs_epi16(both, _mm_sub_epi8(decoded[v], offset)));
        }
      }
    }
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      TFQ_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        wide[p][v] = _mm256_add_epi32(wide[p][v], _mm256_cvtepi16_epi32(narrow[p][v]));
      }
    }
  }
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    __m256i outputs[2];
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      outputs[v] = ApplyStageOfForm<form>(wide[p][v], block.scales[v], stage);
    }
    const __m128i bytes = ClampAvx2(NarrowAvx2(outputs[0], outputs[kVectors - 1]), stage);
    int8_t* to = out + p * out_stride + begin;
    if (kWidth == 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    } else if (valid >= 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
    } else {
      const int64_t part = _mm_cvtsi128_si64(bytes);
      std::memcpy(to, &part, valid);
    }
  }
}

template <int kWidth, int kPixels, StageForm form>
inline void RunPixels(const DepthwiseShape& shape, const Block& block, const int8_t* const* rows, int8_t* out,
                      ptrdiff_t out_stride, const OutputStage& stage) {
  if constexpr (kWidth == 32) {
    RunPixels32<kPixels, form>(shape, block, rows, out, out_stride, stage);
  } else {
    RunPixelsNarrow<kWidth, kPixels, form>(shape, block, rows, out, out_stride, stage);
  }
}

template <int kWidth, StageForm form>
void RunBlock(const DepthwiseShape& shape, const DepthwiseTile& tile, const uint8_t* packed, int32_t begin) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.channels);
  const int32_t* multiplier = reinterpret_cast<const int32_t*>(packed) + kWidth;
  const int32_t* shift = multiplier + kWidth;
  ScaleAvx2 scales[kWidth / 8];
  for (int v = 0; v < kWidth / 8; ++v) {
    scales[v] = MakeScaleOfForm<form>(multiplier + 8 * v, shift + 8 * v, begin + 8 * v, ties_away_begin, tile.stage);
  }
  const Block block{packed, begin, shape.channels < kWidth ? shape.channels : kWidth, scales};
  const int8_t* const* rows = tile.rows;
  int8_t* out = tile.out;
  int32_t p = 0;
  for (; p + 2 <= tile.pixels; p += 2, rows += 2 * ptrdiff_t(shape.taps), out += 2 * tile.out_stride) {
    RunPixels<kWidth, 2, form>(shape, block, rows, out, tile.out_stride, tile.stage);
  }
  if (p < tile.pixels) RunPixels<kWidth, 1, form>(shape, block, rows, out, tile.out_stride, tile.stage);
}

template <int kWidth>
void RunWidth(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const int32_t channels = shape.channels;
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed);
  for (int32_t b = 0; b < ChannelBlockCount(channels, kWidth); ++b, packed += BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(channels, kWidth, b);
    const int32_t end = begin + kWidth < channels ? begin + kWidth : channels;
    const int32_t* multiplier = reinterpret_cast<const int32_t*>(packed) + kWidth;
    switch (StageFormAvx2(multiplier, multiplier + kWidth, kWidth / 8, channels, end, tile.stage)) {
      case StageForm::kShort:
        RunBlock<kWidth, StageForm::kShort>(shape, tile, packed, begin);
        break;
      case StageForm::kGeneral:
        RunBlock<kWidth, StageForm::kGeneral>(shape, tile, packed, begin);
        break;
      case StageForm::kAway:
        RunBlock<kWidth, StageForm::kAway>(shape, tile, packed, begin);
        break;
    }
  }
}

void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  switch (BlockWidth(shape.channels)) {
    case 32:
      return RunWidth<32>(shape, tile);
    case 16:
      return RunWidth<16>(shape, tile);
    default:
      return RunWidth<8>(shape, tile);
  }
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs4cw_2c32_avx2 = {
    "dwconv_qs8_qs4cw_2c32_avx2", CpuTier::kAvx2, kQs4cw, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
