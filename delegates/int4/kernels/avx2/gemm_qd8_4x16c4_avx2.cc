// GEMM of rows that were quantized at run time, on AVX2. Weights are stored as w + 8 (0..15) and stay unsigned: maddubs
// takes them beside signed activations, its sums of two products stay below 2 * 15 * 128, and eight of them fit 16
// bits before they are widened. What the +8 adds, 8 * sum(row), is taken off the integer sums.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/avx2/rows_avx2.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4;
constexpr int32_t kNr = 16;
constexpr int32_t kKr = 4;
constexpr size_t kGroupBytes = kNr * kKr / 2;
constexpr int32_t kGroupsIn16Bits = 8;
constexpr int32_t kWeightOffset = 8;
constexpr size_t kScaleBytes = kNr * sizeof(float);

struct Layout {
  explicit Layout(const GemmShape& shape)
      : groups((size_t(shape.block == 0 ? shape.channels : shape.block) + kKr - 1) / kKr),
        parts(shape.block == 0 ? size_t(shape.taps) : BlocksOf(shape)),
        part_bytes((shape.block == 0 ? 0 : kScaleBytes) + groups * kGroupBytes),
        block_bytes(RoundUp(ScaledSectionBytes(kNr) + parts * part_bytes, kPackedAlignment)) {}
  size_t groups;  // of four channels, in one tap or one block of inputs
  size_t parts;   // taps or blocks of inputs
  size_t part_bytes;
  size_t block_bytes;  // all of 16 output channels
};

size_t PackedBytes(const GemmShape& shape) { return RoundUp(shape.n, kNr) / kNr * Layout(shape).block_bytes; }

// Byte 4 * i + k of a group: channel i in the low nibble, channel i + 8 in the high one. Padding is 0, which adds
// nothing.
void Pack(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const Layout layout(shape);
  const bool blocks = shape.block != 0;
  const int32_t part_channels = blocks ? shape.block : shape.channels;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += layout.block_bytes) {
    WriteScaledSection(source, shape, n_begin, kNr, block);
    for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
      size_t weight = size_t(n_begin + i) * shape.taps * shape.channels;
      uint8_t* part = block + ScaledSectionBytes(kNr);
      for (size_t p = 0; p < layout.parts; ++p, part += layout.part_bytes) {
        if (blocks) reinterpret_cast<float*>(part)[i] = ScaleAt(source, shape, n_begin + i, p);
        uint8_t* groups = part + (blocks ? kScaleBytes : 0) + i % 8 * kKr;
        for (int32_t c = 0; c < part_channels; ++c, ++weight) {
          const int32_t value = ValueAt(source.values, weight) + kWeightOffset;
          groups[c / kKr * kGroupBytes + c % kKr] |= static_cast<uint8_t>(value << (i / 8 * 4));
        }
      }
    }
  }
}

template <int kRows>
struct Sums {
  __m256i wide[kRows][2];  // int32, eight channels each
};

template <int kRows>
struct NarrowSums {
  __m256i narrow[kRows][2];  // int16, two for each channel
};

template <int kRows>
inline void Clear(NarrowSums<kRows>& sums) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) sums.narrow[m][0] = sums.narrow[m][1] = _mm256_setzero_si256();
}

template <int kRows>
inline void Widen(const NarrowSums<kRows>& from, Sums<kRows>& to) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      to.wide[m][v] = _mm256_add_epi32(to.wide[m][v], _mm256_madd_epi16(from.narrow[m][v], _mm256_set1_epi16(1)));
    }
  }
}

// One group of four channels, whose activations load(m) gives.
template <int kRows, typename Load>
inline void AddGroup(const uint8_t* group, NarrowSums<kRows>& sums, const Load& load) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(group));
  const __m256i low = _mm256_and_si256(bytes, nibble);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const __m256i a = _mm256_set1_epi32(load(m));
    sums.narrow[m][0] = _mm256_add_epi16(sums.narrow[m][0], _mm256_maddubs_epi16(low, a));
    sums.narrow[m][1] = _mm256_add_epi16(sums.narrow[m][1], _mm256_maddubs_epi16(high, a));
  }
}

// As many channels as fit 16 bits, of rows without a tail. The stream of weights is long and read once: what comes next
// is asked for early.
constexpr int32_t kPiece = kGroupsIn16Bits * kKr;
constexpr size_t kPieceBytes = kGroupsIn16Bits * kGroupBytes;
constexpr size_t kPrefetchBytes = 4096;

inline void PrefetchAfter(const uint8_t* weights) {
  _mm_prefetch(reinterpret_cast<const char*>(weights + kPrefetchBytes), _MM_HINT_T0);
}

template <int kRows>
inline void AddPiece(const int8_t* const* rows, int32_t c, const uint8_t* group, Sums<kRows>& sums) {
  NarrowSums<kRows> narrow;
  Clear(narrow);
  TFQ_UNROLL
  for (int g = 0; g < kGroupsIn16Bits; ++g) {
    if (g % 2 == 0) PrefetchAfter(group + g * kGroupBytes);
    AddGroup(group + g * kGroupBytes, narrow, [&](int m) { return LoadFour(rows[m] + c + g * kKr); });
  }
  Widen(narrow, sums);
}

// Adds the products of `channels` channels of each row.
template <int kRows>
inline void AddChannels(const int8_t* const* rows, int32_t channels, const uint8_t* group, Sums<kRows>& sums) {
  int32_t c = 0;
  for (; c + kPiece <= channels; c += kPiece, group += kPieceBytes) AddPiece<kRows>(rows, c, group, sums);
  if (c == channels) return;
  NarrowSums<kRows> narrow;
  Clear(narrow);
  for (; c + kKr <= channels; c += kKr, group += kGroupBytes) {
    AddGroup(group, narrow, [&](int m) { return LoadFour(rows[m] + c); });
  }
  if (c < channels) AddGroup(group, narrow, [&](int m) { return LoadTail(rows[m] + c, channels - c); });
  Widen(narrow, sums);
}

// The dequantized sums of 16 output channels, eight a vector.
template <int kRows>
struct Values {
  __m256 of[kRows][2];
};

// A scale for each output channel: the integer sums are exact to the end.
template <int kRows>
Values<kRows> ChannelValues(const GemmShape& shape, const DynamicGemmTile& tile, const Layout& layout,
                            const int32_t* row_sums, const uint8_t* block) {
  Sums<kRows> sums = {};
  const uint8_t* part = block + ScaledSectionBytes(kNr);
  for (int32_t tap = 0; tap < shape.taps; ++tap, part += layout.part_bytes) {
    AddChannels<kRows>(tile.rows + tap * kMr, shape.channels, part, sums);
  }
  const ScaledSection section = ReadScaledSection(block, kNr);
  Values<kRows> values;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const RowQuantization& row = tile.stage.rows[m];
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256i weight_sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(section.weight_sum + 8 * v));
      const __m256i constant = _mm256_add_epi32(_mm256_mullo_epi32(weight_sum, _mm256_set1_epi32(row.zero_point)),
                                                _mm256_set1_epi32(kWeightOffset * row_sums[m]));
      const __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums.wide[m][v], constant));
      values.of[m][v] = _mm256_mul_ps(sum, _mm256_load_ps(section.scale + 8 * v));
    }
  }
  return values;
}

// A scale for each block: sums of a block are integers, and floating-point sums take them up. The zero point meets the
// sum of the dequantized weights at the end.
template <int kRows>
Values<kRows> BlockValues(const GemmShape& shape, const DynamicGemmTile& tile, const Layout& layout,
                          const uint8_t* block) {
  Values<kRows> values;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) values.of[m][0] = values.of[m][1] = _mm256_setzero_ps();
  const uint8_t* part = block + ScaledSectionBytes(kNr);
  const size_t blocks = layout.parts;
  int32_t c = 0;
  for (size_t b = 0; b < blocks; ++b, part += layout.part_bytes) {
    Sums<kRows> sums;
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const int32_t* block_sums = tile.stage.block_sums + m * blocks;
      sums.wide[m][0] = sums.wide[m][1] = _mm256_set1_epi32(-kWeightOffset * block_sums[b]);
    }
    PrefetchAfter(part);
    const uint8_t* group = part + kScaleBytes;
    for (const int32_t end = c + shape.block; c < end; c += kPiece, group += kPieceBytes) {
      AddPiece<kRows>(tile.rows, c, group, sums);
    }
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256 scale = _mm256_load_ps(reinterpret_cast<const float*>(part) + 8 * v);
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) {
        values.of[m][v] = _mm256_add_ps(values.of[m][v], _mm256_mul_ps(_mm256_cvtepi32_ps(sums.wide[m][v]), scale));
      }
    }
  }
  const ScaledSection section = ReadScaledSection(block, kNr);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const __m256 zero_point = _mm256_set1_ps(static_cast<float>(tile.stage.rows[m].zero_point));
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256 weight_sum = _mm256_load_ps(section.scaled_weight_sum + 8 * v);
      values.of[m][v] = _mm256_sub_ps(values.of[m][v], _mm256_mul_ps(weight_sum, zero_point));
    }
  }
  return values;
}

template <int kRows>
void RunRows(const GemmShape& shape, const DynamicGemmTile& tile) {
  const Layout layout(shape);
  int32_t row_sums[kRows] = {};
  if (shape.block == 0) {
    for (int m = 0; m < kRows; ++m) {
      for (int32_t tap = 0; tap < shape.taps; ++tap) row_sums[m] += SumOfRow(tile.rows[tap * kMr + m], shape.channels);
    }
  }
  const __m256 min = _mm256_set1_ps(tile.stage.min), max = _mm256_set1_ps(tile.stage.max);
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr * layout.block_bytes;
  float* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, block += layout.block_bytes, out += kNr) {
    const Values<kRows> values = shape.block == 0 ? ChannelValues<kRows>(shape, tile, layout, row_sums, block)
                                                  : BlockValues<kRows>(shape, tile, layout, block);
    const float* bias = ReadScaledSection(block, kNr).bias;
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const __m256 row_scale = _mm256_set1_ps(tile.stage.rows[m].scale);
      alignas(32) float part[kNr];
      const bool whole = tile.n_end - n >= kNr;
      float* to = whole ? out + m * tile.out_stride : part;
      TFQ_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m256 value = _mm256_add_ps(_mm256_mul_ps(values.of[m][v], row_scale), _mm256_load_ps(bias + 8 * v));
        _mm256_storeu_ps(to + 8 * v, _mm256_min_ps(_mm256_max_ps(value, min), max));
      }
      if (!whole) std::memcpy(out + m * tile.out_stride, part, sizeof(float) * (tile.n_end - n));
    }
  }
}

void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  switch (tile.m) {
    case 1:
      return RunRows<1>(shape, tile);
    case 2:
      return RunRows<2>(shape, tile);
    case 3:
      return RunRows<3>(shape, tile);
    default:
      return RunRows<4>(shape, tile);
  }
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_4x16c4_avx2 = {
    "gemm_qd8_qs4cw_4x16c4_avx2", CpuTier::kAvx2, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

const DynamicGemmKernel gemm_qd8_qs4b_4x16c4_avx2 = {
    "gemm_qd8_qs4b_4x16c4_avx2", CpuTier::kAvx2, kQs4b, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
