// Depthwise convolution of 8-bit weights on AVX2: two pixels at a time over blocks of 16 channels. Two taps are
// interleaved as 16-bit words, so that VPMADDWD multiplies and adds both into 32 bits.
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

constexpr int32_t kLanes = 16;

// Channels that a block advances by; with fewer than 16 channels the upper half of the lanes stays empty.
int32_t BlockWidth(int32_t channels) { return ChannelBlockWidth(channels, kLanes); }

int32_t TapPairs(const DepthwiseShape& shape) { return (shape.taps + 1) / 2; }

size_t BlockBytes(const DepthwiseShape& shape) {
  return RoundUp(ChannelSectionBytes(kLanes) + size_t(TapPairs(shape)) * 2 * kLanes, kPackedAlignment);
}

size_t PackedBytes(const DepthwiseShape& shape) {
  return ChannelBlockCount(shape.channels, BlockWidth(shape.channels)) * BlockBytes(shape);
}

// Interleaving words goes by halves of a register: channels 0..3 and 8..11, then 4..7 and 12..15.
constexpr int32_t PlaceOf(int32_t i) { return i / 4 % 2 * 8 + i / 8 * 4 + i % 4; }

void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const int32_t width = BlockWidth(shape.channels);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, width); ++b, block += BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, width, b);
    const int32_t end = begin + width < shape.channels ? begin + width : shape.channels;
    int32_t sums[kLanes] = {};
    uint8_t* weights = block + ChannelSectionBytes(kLanes);
    for (int32_t i = 0; i < end - begin; ++i) {
      sums[i] = SumOfWeights(source.values, begin + i, shape.taps, shape.channels);
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int32_t value = ValueAt(source.values, size_t(tap) * shape.channels + begin + i);
        weights[tap / 2 * 2 * kLanes + PlaceOf(i) * 2 + tap % 2] = static_cast<uint8_t>(value);
      }
    }
    WriteChannelSection(source, begin, end, kLanes, source.input_zero_point, sums, reinterpret_cast<int32_t*>(block));
  }
}

// A block of channels, the same for every pixel.
struct Block {
  const uint8_t* packed;
  int32_t begin;
  int32_t valid;            // channels of the block, 16 or at most 8
  const ScaleAvx2* scales;  // of channels 0..7 and 8..15
};

inline __m256i LoadWords(const int8_t* from, int32_t valid) {
  if (valid == kLanes) return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  int64_t part = 0;
  std::memcpy(&part, from, valid);
  return _mm256_cvtepi8_epi16(_mm_cvtsi64_si128(part));
}

inline __m256i LoadWeights(const uint8_t* from) {
  return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

template <int kPixels, StageForm form>
void RunPixels(const DepthwiseShape& shape, const Block& block, const int8_t* const* rows, int8_t* out,
               const DepthwiseTile& tile) {
  const int32_t* bias = reinterpret_cast<const int32_t*>(block.packed);
  const uint8_t* weights = block.packed + ChannelSectionBytes(kLanes);
  __m256i sums[kPixels][2];
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) sums[p][0] = sums[p][1] = _mm256_setzero_si256();
  for (int32_t tap = 0; tap < shape.taps; tap += 2, weights += 2 * kLanes) {
    const __m256i low = LoadWeights(weights), high = LoadWeights(weights + kLanes);
    // A last tap without a partner is paired with itself and a weight of zero.
    const int32_t partner = tap + 1 < shape.taps ? tap + 1 : tap;
    TFQ_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const int8_t* const* taps = rows + ptrdiff_t(p) * shape.taps;
      const __m256i a = LoadWords(taps[tap] + block.begin, block.valid);
      const __m256i b = LoadWords(taps[partner] + block.begin, block.valid);
      sums[p][0] = _mm256_add_epi32(sums[p][0], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), low));
      sums[p][1] = _mm256_add_epi32(sums[p][1], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), high));
    }
  }
  TFQ_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    const __m256i in_order[2] = {_mm256_permute2x128_si256(sums[p][0], sums[p][1], 0x20),
                                 _mm256_permute2x128_si256(sums[p][0], sums[p][1], 0x31)};
    __m256i outputs[2];
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256i constant = _mm256_load_si256(reinterpret_cast<const __m256i*>(bias + 8 * v));
      outputs[v] = ApplyStageOfForm<form>(_mm256_add_epi32(in_order[v], constant), block.scales[v], tile.stage);
    }
    const __m128i bytes = ClampAvx2(NarrowAvx2(outputs[0], outputs[1]), tile.stage);
    int8_t* to = out + p * tile.out_stride + block.begin;
    if (block.valid == kLanes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    } else {
      const int64_t part = _mm_cvtsi128_si64(bytes);
      std::memcpy(to, &part, block.valid);
    }
  }
}

template <StageForm form>
void RunBlock(const DepthwiseShape& shape, const DepthwiseTile& tile, const uint8_t* packed, int32_t begin,
              int32_t valid) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.channels);
  const int32_t* multiplier = reinterpret_cast<const int32_t*>(packed) + kLanes;
  ScaleAvx2 scales[2];
  for (int v = 0; v < 2; ++v) {
    scales[v] = MakeScaleOfForm<form>(multiplier + 8 * v, multiplier + kLanes + 8 * v, begin + 8 * v, ties_away_begin,
                                      tile.stage);
  }
  const Block block = {packed, begin, valid, scales};
  const int8_t* const* rows = tile.rows;
  int8_t* out = tile.out;
  int32_t p = 0;
  for (; p + 2 <= tile.pixels; p += 2, rows += 2 * ptrdiff_t(shape.taps), out += 2 * tile.out_stride) {
    RunPixels<2, form>(shape, block, rows, out, tile);
  }
  if (p < tile.pixels) RunPixels<1, form>(shape, block, rows, out, tile);
}

void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const int32_t width = BlockWidth(shape.channels);
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed);
  for (int32_t b = 0; b < ChannelBlockCount(shape.channels, width); ++b, packed += BlockBytes(shape)) {
    const int32_t begin = ChannelBlockBegin(shape.channels, width, b);
    const int32_t valid = width < shape.channels ? width : shape.channels;
    const int32_t* multiplier = reinterpret_cast<const int32_t*>(packed) + kLanes;
    switch (StageFormAvx2(multiplier, multiplier + kLanes, 2, shape.channels, begin + valid, tile.stage)) {
      case StageForm::kShort:
        RunBlock<StageForm::kShort>(shape, tile, packed, begin, valid);
        break;
      case StageForm::kGeneral:
        RunBlock<StageForm::kGeneral>(shape, tile, packed, begin, valid);
        break;
      case StageForm::kAway:
        RunBlock<StageForm::kAway>(shape, tile, packed, begin, valid);
        break;
    }
  }
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs8cw_2c16_avx2 = {
    "dwconv_qs8_qs8cw_2c16_avx2", CpuTier::kAvx2, kQs8cw, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
