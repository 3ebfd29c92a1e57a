// Depthwise convolution on AVX-512: four vectors at a time, each of 64 channels of one pixel, or of the last 32 or
// fewer of two. As on AVX2, two taps are interleaved byte by byte, so that maddubs multiplies and adds both;
// activations are moved to 0..255 (the packed bias takes the 128 off again) and weights are signed: a pair of products
// stays within 2 * 255 * 8, and eight pairs fit 16 bits before they are widened.
#include <cstring>

#include "delegates/int4/kernels/avx512_vnni/output_stage_avx512.h"
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kLanes = 64;
constexpr int32_t kMaxVectors = 4;
constexpr int32_t kPairsIn16Bits = 8;
constexpr int32_t kActivationOffset = 128;
constexpr int32_t kWeightOffset = 8;

// Channels of the block that begins at `begin`.
int32_t BlockWidth(int32_t channels, int32_t begin) { return channels - begin > kLanes / 2 ? kLanes : kLanes / 2; }

int32_t TapPairs(const DepthwiseShape& shape) { return (shape.taps + 1) / 2; }

size_t BlockBytes(const DepthwiseShape& shape, int32_t width) {
  return RoundUp(ChannelSectionBytes(kLanes) + size_t(TapPairs(shape)) * width, kPackedAlignment);
}

size_t PackedBytes(const DepthwiseShape& shape) {
  size_t bytes = 0;
  for (int32_t c = 0; c < shape.channels; c += kLanes) bytes += BlockBytes(shape, BlockWidth(shape.channels, c));
  return bytes;
}

// Sums are widened from interleaved words: lane i of vector v holds this channel of a block of 64.
constexpr int32_t ChannelOfLane(int32_t v, int32_t i) { return i / 4 * 16 + v / 2 * 8 + i % 4 * 2 + v % 2; }

// In each 16 channels, bytes 2j and 2j + 1 hold both taps of channel j (low nibble) and of j + 8 (high nibble), which
// is the order that unpacking two rows gives. The channel section is in the order of ChannelOfLane(), twice the same
// where a vector has two pixels.
void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t begin = 0; begin < shape.channels; begin += kLanes) {
    const int32_t width = BlockWidth(shape.channels, begin);
    int32_t sums[kLanes] = {};
    for (int32_t i = 0; i < width && begin + i < shape.channels; ++i) {
      sums[i] = SumOfWeights(source.values, begin + i, shape.taps, shape.channels);
    }
    int32_t section[3][kLanes];
    WriteChannelSection(source, begin, shape.channels, kLanes, source.input_zero_point + kActivationOffset, sums,
                        section[0]);
    int32_t* ordered = reinterpret_cast<int32_t*>(block);
    for (const int32_t(&values)[kLanes] : section) {
      for (int32_t i = 0; i < kLanes; ++i) *ordered++ = values[ChannelOfLane(i / 16, i % 16) % width];
    }
    for (int32_t tap = 0; tap < 2 * TapPairs(shape); ++tap) {
      uint8_t* pair = block + ChannelSectionBytes(kLanes) + tap / 2 * width;
      for (int32_t i = 0; i < width; ++i) {
        const bool used = tap < shape.taps && begin + i < shape.channels;
        const int32_t value = used ? ValueAt(source.values, size_t(tap) * shape.channels + begin + i) : 0;
        pair[i / 16 * 16 + i % 8 * 2 + tap % 2] |= static_cast<uint8_t>((value + kWeightOffset) << (i % 16 / 8 * 4));
      }
    }
    block += BlockBytes(shape, width);
  }
}

// How a block's channels lie in a vector.
enum class Layout {
  kOnePixel,   // 64 channels
  kOneRagged,  // 33 to 63
  kTwoPixels,  // 32
  kTwoRagged,  // 1 to 31
};
constexpr bool HasTwoPixels(Layout layout) { return layout >= Layout::kTwoPixels; }

Layout LayoutOf(int32_t channels) {
  if (channels > 32) return channels == 64 ? Layout::kOnePixel : Layout::kOneRagged;
  return channels == 32 ? Layout::kTwoPixels : Layout::kTwoRagged;
}

struct Block {
  const int32_t* bias;  // multipliers and shifts follow
  const uint8_t* weights;
  int32_t begin;
  uint64_t used;  // one bit for each channel of a pixel
};

// Rows of `tap` of one pixel, or of two.
template <Layout layout>
inline __m512i LoadTap(const int8_t* const* first, const int8_t* const* second, int32_t tap, const Block& block) {
  const int8_t* row = first[tap] + block.begin;
  if (layout == Layout::kOnePixel) return _mm512_loadu_si512(row);
  if (layout == Layout::kOneRagged) return _mm512_maskz_loadu_epi8(block.used, row);
  const int8_t* other = second[tap] + block.begin;
  const __mmask32 used = static_cast<__mmask32>(block.used);
  const __m256i low = layout == Layout::kTwoPixels ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row))
                                                   : _mm256_maskz_loadu_epi8(used, row);
  const __m256i high = layout == Layout::kTwoPixels ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(other))
                                                    : _mm256_maskz_loadu_epi8(used, other);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

template <Layout layout>
inline __m512i LoadWeights(const uint8_t* weights, int32_t pair) {
  if (!HasTwoPixels(layout)) return _mm512_loadu_si512(weights + pair * kLanes);
  return _mm512_broadcast_i64x4(_mm256_load_si256(reinterpret_cast<const __m256i*>(weights + pair * (kLanes / 2))));
}

// The sums of kVectors vectors, each in four of 32 bits. The pixels' row pointers stand `taps` apart; where there is
// no last pixel, its vector has the one before it twice.
template <Layout layout, int kVectors>
void SumVectors(const DepthwiseShape& shape, const Block& block, const int8_t* const* rows, int32_t pixels,
                __m512i (*out)[4]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i offset = _mm512_set1_epi8(kWeightOffset);
  const __m512i flip = _mm512_set1_epi8(-128);
  const int8_t* const* first[kVectors];
  const int8_t* const* second[kVectors];
  __m512i wide[kVectors][4];
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const ptrdiff_t pixel = HasTwoPixels(layout) ? 2 * v : v;
    first[v] = rows + pixel * shape.taps;
    second[v] = pixel + 1 < pixels ? first[v] + shape.taps : first[v];
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) wide[v][i] = _mm512_load_si512(block.bias + 16 * i);
  }
  const int32_t pairs = TapPairs(shape);
  for (int32_t pair = 0; pair < pairs;) {
    __m512i narrow[kVectors][2];
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) narrow[v][0] = narrow[v][1] = _mm512_setzero_si512();
    const int32_t end = pairs - pair < kPairsIn16Bits ? pairs : pair + kPairsIn16Bits;
    for (; pair < end; ++pair) {
      const __m512i bytes = LoadWeights<layout>(block.weights, pair);
      const __m512i low = _mm512_sub_epi8(_mm512_and_si512(bytes, nibble), offset);
      const __m512i high = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble), offset);
      // A last tap without a partner is paired with itself and a weight of zero.
      const int32_t tap = 2 * pair, partner = tap + 1 < shape.taps ? tap + 1 : tap;
      TFQ_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const __m512i a = _mm512_xor_si512(LoadTap<layout>(first[v], second[v], tap, block), flip);
        const __m512i b = _mm512_xor_si512(LoadTap<layout>(first[v], second[v], partner, block), flip);
        narrow[v][0] = _mm512_add_epi16(narrow[v][0], _mm512_maddubs_epi16(_mm512_unpacklo_epi8(a, b), low));
        narrow[v][1] = _mm512_add_epi16(narrow[v][1], _mm512_maddubs_epi16(_mm512_unpackhi_epi8(a, b), high));
      }
    }
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      TFQ_UNROLL
      for (int i = 0; i < 4; ++i) {
        const __m512i words = i % 2 == 0 ? _mm512_slli_epi32(narrow[v][i / 2], 16) : narrow[v][i / 2];
        wide[v][i] = _mm512_add_epi32(wide[v][i], _mm512_srai_epi32(words, 16));
      }
    }
  }
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) out[v][i] = wide[v][i];
  }
}

template <StageForm form, Layout layout>
void FinishVectors(const DepthwiseTile& tile, const Block& block, const ScaleAvx512 (&scales)[4],
                   const __m512i (*sums)[4], int32_t pixels, int8_t* out) {
  const __m512i least = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m512i most = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __m512i in_order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
  constexpr int32_t kPixels = HasTwoPixels(layout) ? 2 : 1;
  for (int32_t p = 0; p < pixels; p += kPixels, ++sums, out += kPixels * tile.out_stride) {
    __m512i values[4];
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) values[i] = ApplyOutputStageAvx512<form>((*sums)[i], scales[i]);
    const __m512i packed =
        _mm512_packs_epi16(_mm512_packs_epi32(values[0], values[1]), _mm512_packs_epi32(values[2], values[3]));
    const __m512i bytes = _mm512_min_epi8(_mm512_max_epi8(_mm512_shuffle_epi8(packed, in_order), least), most);
    if (!HasTwoPixels(layout)) {
      _mm512_mask_storeu_epi8(out, block.used, bytes);
      continue;
    }
    const __mmask32 used = static_cast<__mmask32>(block.used);
    _mm256_mask_storeu_epi8(out, used, _mm512_castsi512_si256(bytes));
    if (p + 1 < pixels) _mm256_mask_storeu_epi8(out + tile.out_stride, used, _mm512_extracti64x4_epi64(bytes, 1));
  }
}

template <StageForm form, Layout layout>
void RunBlock(const DepthwiseShape& shape, const DepthwiseTile& tile, const Block& block, int32_t ties_away_begin) {
  ScaleAvx512 scales[4];
  const int32_t* multiplier = block.bias + kLanes;
  const int32_t* shift = multiplier + kLanes;
  for (int v = 0; v < 4; ++v) {
    int32_t channels[16];
    for (int i = 0; i < 16; ++i) channels[i] = block.begin + ChannelOfLane(v, i) % (HasTwoPixels(layout) ? 32 : 64);
    scales[v] = MakeScaleAvx512<form>(multiplier + 16 * v, shift + 16 * v, _mm512_loadu_si512(channels),
                                      ties_away_begin, tile.stage);
  }
  constexpr int32_t kPixels = HasTwoPixels(layout) ? 2 : 1;
  int8_t* out = tile.out + block.begin;
  const int8_t* const* rows = tile.rows;
  for (int32_t p = 0; p < tile.pixels;) {
    const int32_t left = tile.pixels - p;
    const int32_t vectors = (left + kPixels - 1) / kPixels;
    __m512i sums[kMaxVectors][4];
    int32_t pixels;
    if (vectors >= kMaxVectors) {
      pixels = left < kMaxVectors * kPixels ? left : kMaxVectors * kPixels;
      SumVectors<layout, kMaxVectors>(shape, block, rows, pixels, sums);
    } else if (vectors >= 2) {
      pixels = left < 2 * kPixels ? left : 2 * kPixels;
      SumVectors<layout, 2>(shape, block, rows, pixels, sums);
    } else {
      pixels = left;
      SumVectors<layout, 1>(shape, block, rows, pixels, sums);
    }
    FinishVectors<form, layout>(tile, block, scales, sums, pixels, out);
    p += pixels;
    rows += ptrdiff_t(pixels) * shape.taps;
    out += pixels * tile.out_stride;
  }
}

using BlockFunction = void (*)(const DepthwiseShape&, const DepthwiseTile&, const Block&, int32_t);

template <StageForm form>
constexpr BlockFunction kByLayout[4] = {RunBlock<form, Layout::kOnePixel>, RunBlock<form, Layout::kOneRagged>,
                                        RunBlock<form, Layout::kTwoPixels>, RunBlock<form, Layout::kTwoRagged>};

BlockFunction FunctionOf(StageForm form, Layout layout) {
  constexpr const BlockFunction* kByForm[] = {kByLayout<StageForm::kShort>, kByLayout<StageForm::kGeneral>,
                                              kByLayout<StageForm::kAway>};
  return kByForm[static_cast<int>(form)][static_cast<int>(layout)];
}

void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.channels);
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed);
  for (int32_t begin = 0; begin < shape.channels; begin += kLanes) {
    const int32_t channels = shape.channels - begin < kLanes ? shape.channels - begin : kLanes;
    const int32_t* bias = reinterpret_cast<const int32_t*>(packed);
    const Block block = {bias, packed + ChannelSectionBytes(kLanes), begin, ~uint64_t{0} >> (64 - channels)};
    const StageForm form =
        StageFormOf(bias + kLanes, bias + 2 * kLanes, 4, shape.channels, begin + channels, tile.stage);
    FunctionOf(form, LayoutOf(channels))(shape, tile, block, ties_away_begin);
    packed += BlockBytes(shape, BlockWidth(shape.channels, begin));
  }
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs4cw_4c64_avx512_vnni = {
    "dwconv_qs8_qs4cw_4c64_avx512_vnni", CpuTier::kAvx512Vnni, kQs4cw, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
