// Depthwise convolution on AVX-512 VNNI, of 4- and 8-bit weights: four vectors at a time, each of 64 channels of one
// pixel, or of the last 32 or fewer of two. Four taps are interleaved byte by byte, so that VPDPBUSD multiplies and
// adds them; activations are moved to 0..255 (the packed bias takes the 128 off again) beside signed weights.
//
// Interleaving takes twice the time of the products. The four taps of windows of 3x3 and 5x5 therefore lie one below
// the other, and where pixels are neighbours in a row of the image, each column is interleaved once for all of them.
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
constexpr int32_t kActivationOffset = 128;
constexpr int32_t kQuad = 4;  // taps of a product

// Windows whose columns pixels share are of 3x3 or 5x5. Each of their columns' first rows, four at most, is a quad.
constexpr int32_t RowsOfColumn(int32_t side) { return side < kQuad ? side : kQuad; }
constexpr bool HasColumns(const DepthwiseShape& shape) {
  return (shape.width == 3 || shape.width == 5) && shape.taps == shape.width * shape.width;
}

// Channels of the block that begins at `begin`.
int32_t BlockWidth(int32_t channels, int32_t begin) { return channels - begin > kLanes / 2 ? kLanes : kLanes / 2; }

// Of 3x3 and 5x5, this many in columns as well.
constexpr int32_t Quads(const DepthwiseShape& shape) { return (shape.taps + kQuad - 1) / kQuad; }

// The taps of a quad: of a column, or one after the other.
struct QuadTaps {
  int32_t first, step, count;
  // The last one stands in for those past it, which have weights of zero.
  constexpr int32_t At(int32_t i) const { return first + (i < count ? i : count - 1) * step; }
};

constexpr QuadTaps TapsOf(const DepthwiseShape& shape, int32_t quad) {
  int32_t first = quad * kQuad;
  if (HasColumns(shape)) {
    const int32_t rows = RowsOfColumn(shape.width);
    if (quad < shape.width) return {quad, shape.width, rows};
    first = rows * shape.width + (quad - shape.width) * kQuad;
  }
  return {first, 1, shape.taps - first < kQuad ? shape.taps - first : kQuad};
}

// Of four taps of a block.
template <int32_t bits>
constexpr int32_t QuadBytes(int32_t width) {
  return kQuad * width * bits / 8;
}

template <int32_t bits>
size_t BlockBytes(const DepthwiseShape& shape, int32_t width) {
  return RoundUp(ChannelsBytesAvx512(kLanes) + size_t(Quads(shape)) * QuadBytes<bits>(width), kPackedAlignment);
}

template <int32_t bits>
size_t PackedBytes(const DepthwiseShape& shape) {
  size_t bytes = 0;
  for (int32_t c = 0; c < shape.channels; c += kLanes) {
    bytes += BlockBytes<bits>(shape, BlockWidth(shape.channels, c));
  }
  return bytes;
}

// Interleaving four rows gives four vectors: lane i of vector v holds this channel of a block of 64.
constexpr int32_t ChannelOfLane(int32_t v, int32_t i) { return i / 4 * 16 + v * 4 + i % 4; }

// The weights of a quad lie as the vectors do, four taps to a lane. Of 8 bits, one vector after the other; of 4 bits,
// moved to 0..15, vectors 0 and 1 in the low and high nibbles of the same bytes, then 2 and 3. The channel section is
// in the order of ChannelOfLane(), twice the same where a vector has two pixels.
template <int32_t bits>
void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t begin = 0; begin < shape.channels; begin += kLanes) {
    const int32_t width = BlockWidth(shape.channels, begin);
    int32_t sums[kLanes] = {};
    for (int32_t i = 0; i < width && begin + i < shape.channels; ++i) {
      sums[i] = SumOfWeights(source.values, begin + i, shape.taps, shape.channels);
    }
    int32_t section[3 * kLanes];
    WriteChannelSection(source, begin, shape.channels, kLanes, source.input_zero_point + kActivationOffset, sums,
                        section);
    WriteChannelsAvx512<kLanes>(
        section, [&](int32_t i) { return ChannelOfLane(i / 16, i % 16) % width; }, block);
    for (int32_t slot = 0; slot < kQuad * Quads(shape); ++slot) {
      uint8_t* quad = block + ChannelsBytesAvx512(kLanes) + slot / kQuad * QuadBytes<bits>(width);
      const QuadTaps taps = TapsOf(shape, slot / kQuad);
      const size_t tap = taps.At(slot % kQuad);
      for (int32_t v = 0; v < 4; ++v) {
        for (int32_t i = 0; i < width / 4; ++i) {
          const int32_t channel = begin + ChannelOfLane(v, i);
          const bool used = slot % kQuad < taps.count && channel < shape.channels;
          const int32_t value = used ? ValueAt(source.values, tap * shape.channels + channel) : 0;
          const int32_t byte = i * kQuad + slot % kQuad;
          if (bits == 8) {
            quad[v * width + byte] = static_cast<uint8_t>(value);
          } else {
            quad[v / 2 * width + byte] |= static_cast<uint8_t>((value + 8) << (v % 2 * 4));
          }
        }
      }
    }
    block += BlockBytes<bits>(shape, width);
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
  ChannelsAvx512 channels;  // in the order of the lanes
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
inline __m512i LoadWeights(const uint8_t* weights) {
  if (!HasTwoPixels(layout)) return _mm512_load_si512(weights);
  return _mm512_broadcast_i64x4(_mm256_load_si256(reinterpret_cast<const __m256i*>(weights)));
}

template <int32_t bits, Layout layout>
inline void DecodeQuad(const uint8_t* quad, __m512i (&weights)[4]) {
  constexpr int32_t kWidth = HasTwoPixels(layout) ? kLanes / 2 : kLanes;
  TFQ_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (bits == 8) {
      weights[i] = LoadWeights<layout>(quad + i * kWidth);
    } else {
      const __m512i bytes = LoadWeights<layout>(quad + i / 2 * kWidth);
      const __m512i nibbles = i % 2 == 0 ? bytes : _mm512_srli_epi16(bytes, 4);
      weights[i] = _mm512_sub_epi8(_mm512_and_si512(nibbles, _mm512_set1_epi8(15)), _mm512_set1_epi8(8));
    }
  }
}

template <int32_t bits, Layout layout>
void DecodeQuads(const DepthwiseShape& shape, const Block& block, __m512i* weights) {
  const uint8_t* quad = block.weights;
  for (int32_t q = 0; q < Quads(shape); ++q, quad += QuadBytes<bits>(HasTwoPixels(layout) ? kLanes / 2 : kLanes)) {
    __m512i decoded[4];
    DecodeQuad<bits, layout>(quad, decoded);
    for (const __m512i& vector : decoded) *weights++ = vector;
  }
}

// Four taps, byte by byte.
inline void Interleave(const __m512i (&taps)[kQuad], __m512i (&quad)[4]) {
  const __m512i ab_low = _mm512_unpacklo_epi8(taps[0], taps[1]), ab_high = _mm512_unpackhi_epi8(taps[0], taps[1]);
  const __m512i cd_low = _mm512_unpacklo_epi8(taps[2], taps[3]), cd_high = _mm512_unpackhi_epi8(taps[2], taps[3]);
  quad[0] = _mm512_unpacklo_epi16(ab_low, cd_low);
  quad[1] = _mm512_unpackhi_epi16(ab_low, cd_low);
  quad[2] = _mm512_unpacklo_epi16(ab_high, cd_high);
  quad[3] = _mm512_unpackhi_epi16(ab_high, cd_high);
}

template <Layout layout>
inline void LoadQuad(const int8_t* const* first, const int8_t* const* second, const QuadTaps& taps, const Block& block,
                     __m512i (&quad)[4]) {
  __m512i rows[kQuad];
  TFQ_UNROLL
  for (int i = 0; i < kQuad; ++i) {
    rows[i] = _mm512_xor_si512(LoadTap<layout>(first, second, taps.At(i), block), _mm512_set1_epi8(-128));
  }
  Interleave(rows, quad);
}

inline void LoadBias(const Block& block, __m512i (&sums)[4]) {
  TFQ_UNROLL
  for (int i = 0; i < 4; ++i) sums[i] = _mm512_load_si512(block.channels.bias + 16 * i);
}

inline void AddProducts(const __m512i (&quad)[4], const __m512i* weights, __m512i (&sums)[4]) {
  TFQ_UNROLL
  for (int i = 0; i < 4; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], quad[i], weights[i]);
}

// The sums of kVectors vectors, each in four of 32 bits. The pixels' row pointers stand `taps` apart. A vector of two
// pixels has the one kVectors further on as its second, or, where there is none, the first one twice.
template <int32_t bits, Layout layout, int kVectors>
void SumVectors(const DepthwiseShape& shape, const Block& block, const int8_t* const* rows, int32_t pixels,
                __m512i (*out)[4]) {
  const int8_t* const* first[kVectors];
  const int8_t* const* second[kVectors];
  __m512i sums[kVectors][4];
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    first[v] = rows + ptrdiff_t(v) * shape.taps;
    second[v] = v + kVectors < pixels ? first[v] + ptrdiff_t(kVectors) * shape.taps : first[v];
    LoadBias(block, sums[v]);
  }
  const uint8_t* weights_of_quad = block.weights;
  for (int32_t q = 0; q < Quads(shape); ++q) {
    const QuadTaps taps = TapsOf(shape, q);
    __m512i weights[4];
    DecodeQuad<bits, layout>(weights_of_quad, weights);
    weights_of_quad += QuadBytes<bits>(HasTwoPixels(layout) ? kLanes / 2 : kLanes);
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      __m512i quad[4];
      LoadQuad<layout>(first[v], second[v], taps, block, quad);
      AddProducts(quad, weights, sums[v]);
    }
  }
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) out[v][i] = sums[v][i];
  }
}

// Of a window whose columns pixels share.
template <int32_t kSide>
struct Columns {
  static constexpr int32_t kTaps = kSide * kSide;
  static constexpr int32_t kRows = RowsOfColumn(kSide);
  static constexpr DepthwiseShape kShape = {kTaps, 0, kSide};

  // From the row pointers of a vector's first pixel to those of its second.
  template <Layout layout>
  static constexpr ptrdiff_t SecondPixel() {
    return HasTwoPixels(layout) ? kMaxVectors * kTaps : 0;
  }

  // The quads from q on, which pixels do not share.
  template <Layout layout, int32_t q>
  static inline void AddFrom(const Block& block, const __m512i* weights, const int8_t* const* rows,
                             __m512i (&sums)[kMaxVectors][4]) {
    if constexpr (q < Quads(kShape)) {
      TFQ_UNROLL
      for (int v = 0; v < kMaxVectors; ++v) {
        const int8_t* const* first = rows + v * kTaps;
        __m512i quad[4];
        LoadQuad<layout>(first, first + SecondPixel<layout>(), TapsOf(kShape, q), block, quad);
        AddProducts(quad, weights + 4 * q, sums[v]);
      }
      AddFrom<layout, q + 1>(block, weights, rows, sums);
    }
  }

  // The sums of kMaxVectors vectors, as SumVectors() gives them, of pixels that share their columns; `weights` decoded.
  template <Layout layout, int32_t stride>
  static __attribute__((noinline)) void Sum(const Block& block, const __m512i* weights, const int8_t* const* rows,
                                            __m512i (*out)[4]) {
    __m512i sums[kMaxVectors][4];
    TFQ_UNROLL
    for (int v = 0; v < kMaxVectors; ++v) LoadBias(block, sums[v]);
    TFQ_UNROLL
    for (int32_t column = 0; column < kSide + (kMaxVectors - 1) * stride; ++column) {
      const int32_t pixel = column < kSide ? 0 : (column - kSide) / stride + 1;  // the first one that sees it
      const int8_t* const* first = rows + pixel * kTaps;
      __m512i quad[4];
      LoadQuad<layout>(first, first + SecondPixel<layout>(), TapsOf(kShape, column - pixel * stride), block, quad);
      TFQ_UNROLL
      for (int v = 0; v < kMaxVectors; ++v) {
        const int32_t x = column - v * stride;
        if (x >= 0 && x < kSide) AddProducts(quad, weights + 4 * x, sums[v]);
      }
    }
    AddFrom<layout, kSide>(block, weights, rows, sums);
    TFQ_UNROLL
    for (int v = 0; v < kMaxVectors; ++v) {
      TFQ_UNROLL
      for (int i = 0; i < 4; ++i) out[v][i] = sums[v][i];
    }
  }
};

template <StageForm form, Layout layout>
void FinishVectors(const DepthwiseTile& tile, const Block& block, const ScaleAvx512 (&scales)[4],
                   const __m512i (*sums)[4], int32_t vectors, int32_t pixels, int8_t* out) {
  const __m512i least = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m512i most = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.max));
  for (int32_t v = 0; v < vectors; ++v, ++sums, out += tile.out_stride) {
    __m512i values[4];
    TFQ_UNROLL
    for (int i = 0; i < 4; ++i) values[i] = ApplyOutputStageAvx512<form>((*sums)[i], scales[i]);
    const __m512i packed =
        _mm512_packs_epi16(_mm512_packs_epi32(values[0], values[1]), _mm512_packs_epi32(values[2], values[3]));
    const __m512i bytes = _mm512_min_epi8(_mm512_max_epi8(packed, least), most);
    if (!HasTwoPixels(layout)) {
      _mm512_mask_storeu_epi8(out, block.used, bytes);
      continue;
    }
    const __mmask32 used = static_cast<__mmask32>(block.used);
    _mm256_mask_storeu_epi8(out, used, _mm512_castsi512_si256(bytes));
    if (v + vectors < pixels) {
      _mm256_mask_storeu_epi8(out + vectors * tile.out_stride, used, _mm512_extracti64x4_epi64(bytes, 1));
    }
  }
}

using SharedSum = void (*)(const Block&, const __m512i*, const int8_t* const*, __m512i (*)[4]);

// Sums of pixels that share columns, none where there is no function for them.
template <Layout layout>
SharedSum SharedSumOf(const DepthwiseShape& shape, int32_t step) {
  if (!HasColumns(shape) || step > 2) return nullptr;
  if (shape.width == 3) return step == 1 ? Columns<3>::Sum<layout, 1> : Columns<3>::Sum<layout, 2>;
  return step == 1 ? Columns<5>::Sum<layout, 1> : Columns<5>::Sum<layout, 2>;
}

// Whether the kMaxVectors pixels from p on stand in one row of the image.
bool AreNeighbours(const PixelRow& row, int32_t p) { return (row.x + p) % row.width + kMaxVectors <= row.width; }

template <int32_t bits, StageForm form, Layout layout>
void RunBlock(const DepthwiseShape& shape, const DepthwiseTile& tile, const Block& block, int32_t ties_away_begin) {
  ScaleAvx512 scales[4];
  for (int v = 0; v < 4; ++v) {
    int32_t channels[16];
    for (int i = 0; i < 16; ++i) channels[i] = block.begin + ChannelOfLane(v, i) % (HasTwoPixels(layout) ? 32 : 64);
    scales[v] =
        MakeScaleAvx512<form>(block.channels.From(16 * v), _mm512_loadu_si512(channels), ties_away_begin, tile.stage);
  }
  constexpr int32_t kPixels = HasTwoPixels(layout) ? 2 : 1;
  constexpr int32_t kMaxPixels = kMaxVectors * kPixels;
  __m512i shared_weights[4 * Quads(Columns<5>::kShape)];
  const auto sum_shared = tile.pixels < kMaxPixels ? nullptr : SharedSumOf<layout>(shape, tile.in_row.step);
  if (sum_shared != nullptr) DecodeQuads<bits, layout>(shape, block, shared_weights);
  int8_t* out = tile.out + block.begin;
  const int8_t* const* rows = tile.rows;
  for (int32_t p = 0; p < tile.pixels;) {
    const int32_t left = tile.pixels - p;
    const int32_t wanted = (left + kPixels - 1) / kPixels;
    const int32_t vectors = wanted >= kMaxVectors ? kMaxVectors : wanted >= 2 ? 2 : 1;
    const int32_t pixels = left < vectors * kPixels ? left : vectors * kPixels;
    __m512i sums[kMaxVectors][4];
    if (sum_shared != nullptr && pixels == kMaxPixels && AreNeighbours(tile.in_row, p) &&
        (kPixels == 1 || AreNeighbours(tile.in_row, p + kMaxVectors))) {
      sum_shared(block, shared_weights, rows, sums);
    } else {
      if (vectors == kMaxVectors) {
        SumVectors<bits, layout, kMaxVectors>(shape, block, rows, pixels, sums);
      } else if (vectors == 2) {
        SumVectors<bits, layout, 2>(shape, block, rows, pixels, sums);
      } else {
        SumVectors<bits, layout, 1>(shape, block, rows, pixels, sums);
      }
    }
    FinishVectors<form, layout>(tile, block, scales, sums, vectors, pixels, out);
    p += pixels;
    rows += ptrdiff_t(pixels) * shape.taps;
    out += pixels * tile.out_stride;
  }
}

using BlockFunction = void (*)(const DepthwiseShape&, const DepthwiseTile&, const Block&, int32_t);

template <int32_t bits, StageForm form>
constexpr BlockFunction kByLayout[4] = {
    RunBlock<bits, form, Layout::kOnePixel>, RunBlock<bits, form, Layout::kOneRagged>,
    RunBlock<bits, form, Layout::kTwoPixels>, RunBlock<bits, form, Layout::kTwoRagged>};

template <int32_t bits>
BlockFunction FunctionOf(StageForm form, Layout layout) {
  static constexpr const BlockFunction* kByForm[] = {
      kByLayout<bits, StageForm::kShort>, kByLayout<bits, StageForm::kGeneral>, kByLayout<bits, StageForm::kAway>};
  return kByForm[static_cast<int>(form)][static_cast<int>(layout)];
}

template <int32_t bits>
void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.channels);
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed);
  for (int32_t begin = 0; begin < shape.channels; begin += kLanes) {
    const int32_t channels = shape.channels - begin < kLanes ? shape.channels - begin : kLanes;
    const Block block = {ChannelsOf<kLanes>(packed), packed + ChannelsBytesAvx512(kLanes), begin,
                         ~uint64_t{0} >> (64 - channels)};
    const StageForm form = StageFormOf(block.channels, 4, shape.channels, begin + channels, tile.stage);
    FunctionOf<bits>(form, LayoutOf(channels))(shape, tile, block, ties_away_begin);
    packed += BlockBytes<bits>(shape, BlockWidth(shape.channels, begin));
  }
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs4cw_4c64_avx512_vnni = {
    "dwconv_qs8_qs4cw_4c64_avx512_vnni", CpuTier::kAvx512Vnni, kQs4cw, PackedBytes<4>, Pack<4>, Run<4>,
};

const DepthwiseKernel dwconv_qs8_qs8cw_4c64_avx512_vnni = {
    "dwconv_qs8_qs8cw_4c64_avx512_vnni", CpuTier::kAvx512Vnni, kQs8cw, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
