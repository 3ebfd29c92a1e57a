// Matrix products of 8-bit weights on AVX2. The rows of a tile are widened to 16 bits once for all output channels, so
// that VPMADDWD takes two channels of a row from a broadcast; weights are widened as they are read.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/avx2/finish_16_avx2.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/gemm_blocks.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 6;
constexpr int32_t kNr = kNr16;
constexpr int32_t kKr = 2;
constexpr BlockLayout kLayout = {kNr, kKr, 8, kPackedAlignment};
constexpr size_t kGroupBytes = GroupBytes(kLayout);

size_t PackedBytes(const GemmShape& shape) { return PackedBytesOf(kLayout, shape); }

size_t ScratchBytes(const GemmShape& shape) { return kMr * GroupsOf(kLayout, shape) * kKr * sizeof(int16_t); }

void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(kLayout, shape, source, packed);
}

// Rows of the tile one after the other, their taps padded with a zero to whole groups.
void WidenRows(const GemmShape& shape, const GemmTile& tile, int16_t* to) {
  for (int32_t m = 0; m < tile.m; ++m) {
    for (int32_t tap = 0; tap < shape.taps; ++tap) {
      const int8_t* row = tile.rows[tap * kMr + m];
      int32_t c = 0;
      for (; c + 16 <= shape.channels; c += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + c));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + c), _mm256_cvtepi8_epi16(bytes));
      }
      for (; c < shape.channels; ++c) to[c] = row[c];
      if (c % kKr != 0) to[c++] = 0;
      to += c;
    }
  }
}

inline __m256i LoadWeights(const uint8_t* from) {
  return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

template <int kRows>
void SumBlock(const int16_t* rows, size_t groups, const uint8_t* weights, __m256i (*out)[2]) {
  __m256i sums[kRows][2];
  const int16_t* row[kRows];
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    sums[m][0] = sums[m][1] = _mm256_setzero_si256();
    row[m] = rows + m * groups * kKr;
  }
  for (size_t group = 0; group < groups; ++group, weights += kGroupBytes) {
    const __m256i low = LoadWeights(weights), high = LoadWeights(weights + kGroupBytes / 2);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      int32_t two;
      std::memcpy(&two, row[m] + group * kKr, sizeof two);
      const __m256i a = _mm256_set1_epi32(two);
      sums[m][0] = _mm256_add_epi32(sums[m][0], _mm256_madd_epi16(low, a));
      sums[m][1] = _mm256_add_epi32(sums[m][1], _mm256_madd_epi16(high, a));
    }
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    out[m][0] = sums[m][0];
    out[m][1] = sums[m][1];
  }
}

using SumFunction = void (*)(const int16_t*, size_t, const uint8_t*, __m256i (*)[2]);
constexpr SumFunction kSumByRows[kMr] = {SumBlock<1>, SumBlock<2>, SumBlock<3>, SumBlock<4>, SumBlock<5>, SumBlock<6>};

void Run(const GemmShape& shape, const GemmTile& tile) {
  int16_t* rows = static_cast<int16_t*>(tile.scratch);
  WidenRows(shape, tile, rows);
  const SumFunction sum = kSumByRows[tile.m - 1];
  const int32_t corrections[kMr] = {};
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const size_t groups = GroupsOf(kLayout, shape);
  for (auto at = BlocksOf(kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    __m256i sums[kMr][2];
    sum(rows, groups, at.packed + ChannelSectionBytes(kNr), sums);
    const int32_t columns = tile.n_end - at.n < kNr ? tile.n_end - at.n : kNr;
    const int32_t* bias = reinterpret_cast<const int32_t*>(at.packed);
    FinishBlock16(shape, tile, {bias, at.n, columns, ties_away_begin, corrections, at.out}, sums);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs8cw_6x16c2_avx2 = {
    "gemm_qs8_qs8cw_6x16c2_avx2", CpuTier::kAvx2, kQs8cw, kMr, kNr, kKr, PackedBytes, Pack, Run, ScratchBytes,
};

}  // namespace tfq::int4
