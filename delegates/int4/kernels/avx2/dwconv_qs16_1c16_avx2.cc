// Depthwise convolution between 16-bit activations on AVX2, for weights of either width: two taps of a channel lie side
// by side, and VPMADDWD adds their products into 32 bits. Sums move to 64 bits before they could overflow.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_gemm.h"
#include "delegates/int4/packing/channel_blocks.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kWidth = 16;
constexpr size_t kSectionBytes = sizeof(WideChannel) * kWidth;

int32_t PairsOf(const DepthwiseShape& shape) { return (shape.taps + 1) / 2; }

template <int32_t bits>
struct Layout {
  static constexpr size_t kPairBytes = size_t{kWidth} * 2 * bits / 8;

  static size_t BlockBytes(const DepthwiseShape& shape) {
    return RoundUp(kSectionBytes + PairsOf(shape) * kPairBytes, kPackedAlignment);
  }
};

template <int32_t bits>
size_t PackedBytes(const DepthwiseShape& shape) {
  return ChannelBlockCount(shape.channels, kWidth) * Layout<bits>::BlockBytes(shape);
}

// Where unpacking two rows puts a tap of a channel: 16 places of the lower halves of each 128 bits, then the upper.
int32_t PlaceOf(int32_t channel, int32_t tap) {
  return channel / 4 % 2 * 16 + channel / 8 * 8 + channel % 4 * 2 + tap % 2;
}

template <int32_t bits>
void Pack(const DepthwiseShape& shape, const WideWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, kWidth); ++b, block += Layout<bits>::BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, kWidth, b);
    for (int32_t i = 0; i < kWidth && begin + i < shape.channels; ++i) {
      std::memcpy(block + sizeof(WideChannel) * i, source.channels + begin + i, sizeof(WideChannel));
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        uint8_t* pair = block + kSectionBytes + tap / 2 * Layout<bits>::kPairBytes;
        const int32_t value = ValueAt(source.values, size_t(tap) * shape.channels + begin + i);
        const int32_t place = PlaceOf(i, tap);
        if (bits == 8) {
          pair[place] = static_cast<uint8_t>(value);
        } else {
          pair[place % 16] |= static_cast<uint8_t>((value & 15) << (place / 16 * 4));
        }
      }
    }
  }
}

template <int32_t bits>
inline void LoadWeights(const uint8_t* from, __m256i* weights) {
  const __m256i bytes = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
  if (bits == 8) {
    weights[0] = bytes;
    weights[1] = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from + 16)));
  } else {
    weights[0] = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 12), 12);
    weights[1] = _mm256_srai_epi16(bytes, 4);
  }
}

// Fewer than 16 channels are read one by one: nothing past a row is touched.
inline __m256i LoadRow(const int16_t* row, int32_t channels) {
  if (channels == kWidth) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
  alignas(32) int16_t part[kWidth] = {};
  std::memcpy(part, row, sizeof(int16_t) * channels);
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(part));
}

// Four channels of each half: `low` and `low` + 8.
inline void AddTo(__m256i sums, int64_t* low) {
  __m256i* first = reinterpret_cast<__m256i*>(low);
  __m256i* second = reinterpret_cast<__m256i*>(low + 8);
  *first = _mm256_add_epi64(*first, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums)));
  *second = _mm256_add_epi64(*second, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sums, 1)));
}

template <int32_t bits>
void RunPixel(const DepthwiseShape& shape, const int16_t* const* taps, int32_t begin, int32_t channels,
              const uint8_t* pair, int64_t* wide) {
  __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  const auto widen = [&] {
    AddTo(sums[0], wide);
    AddTo(sums[1], wide + 4);
    sums[0] = sums[1] = _mm256_setzero_si256();
  };
  constexpr int32_t kPairsIn32Bits = ProductsIn32Bits(bits) / 2;
  int32_t room = kPairsIn32Bits;
  for (int32_t tap = 0; tap < shape.taps; tap += 2, pair += Layout<bits>::kPairBytes) {
    __m256i weights[2];
    LoadWeights<bits>(pair, weights);
    const __m256i first = LoadRow(taps[tap] + begin, channels);
    const __m256i second = tap + 1 < shape.taps ? LoadRow(taps[tap + 1] + begin, channels) : _mm256_setzero_si256();
    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(first, second), weights[0]));
    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(first, second), weights[1]));
    if (--room == 0) {
      widen();
      room = kPairsIn32Bits;
    }
  }
  widen();
}

template <int32_t bits>
void Run(const DepthwiseShape& shape, const WideDepthwiseTile& tile) {
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed);
  const int32_t channels = shape.channels < kWidth ? shape.channels : kWidth;
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, kWidth); ++b, block += Layout<bits>::BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, kWidth, b);
    for (int32_t p = 0; p < tile.pixels; ++p) {
      alignas(32) int64_t wide[kWidth] = {};
      RunPixel<bits>(shape, tile.rows + size_t(p) * shape.taps, begin, channels, block + kSectionBytes, wide);
      ApplyWideStage(wide, reinterpret_cast<const WideChannel*>(block), channels, tile.stage,
                     tile.out + p * tile.out_stride + begin);
    }
  }
}

}  // namespace

const WideDepthwiseKernel dwconv_qs16_qs4cw_1c16_avx2 = {
    "dwconv_qs16_qs4cw_1c16_avx2", CpuTier::kAvx2, kQs4cw, PackedBytes<4>, Pack<4>, Run<4>,
};

const WideDepthwiseKernel dwconv_qs16_qs8cw_1c16_avx2 = {
    "dwconv_qs16_qs8cw_1c16_avx2", CpuTier::kAvx2, kQs8cw, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
