// Matrix products on AVX2. Weights are stored as w + 8 (0..15) and stay unsigned: maddubs takes them beside signed
// activations, its sums of two products stay below 2 * 15 * 128, and eight of them fit 16 bits before they are widened.
// What the +8 adds, 8 * sum(row), is taken off at the end; the sums of the rows are made once for all channels.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/avx2/finish_16_avx2.h"
#include "delegates/int4/kernels/avx2/rows_avx2.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/row_parts.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/gemm_blocks.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 32;
constexpr int32_t kMaxRows = 4;  // whose sums fit the registers
constexpr int32_t kNr = kNr16;
constexpr int32_t kKr = 4;
constexpr BlockLayout kLayout = {kNr, kKr, 4, kPackedAlignment};
constexpr size_t kGroupBytes = GroupBytes(kLayout);
constexpr int32_t kGroupsIn16Bits = 8;
constexpr int32_t kWeightOffset = 8;

size_t PackedBytes(const GemmShape& shape) { return PackedBytesOf(kLayout, shape); }

inline void AddNibbles(uint32_t nibbles, int32_t bit, uint8_t* to) {
  uint32_t others;
  std::memcpy(&others, to, sizeof others);
  others |= nibbles << bit;
  std::memcpy(to, &others, sizeof others);
}

// Byte 4 * i + k of a group: channel i in the low nibble, channel i + 8 in the high one. Padding is 0, which adds
// nothing.
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  constexpr int32_t kPiece = 64 * kKr;
  std::memset(packed, 0, PackedBytes(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes(kLayout, shape)) {
    int32_t sums[kNr] = {};
    for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
      size_t begin = (n_begin + i) * depth;
      const int32_t bit = i / 8 * 4;
      uint8_t* group = block + ChannelSectionBytes(kNr) + i % 8 * kKr;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        for (int32_t c = 0; c < shape.channels; c += kPiece) {
          uint8_t values[kPiece] = {};
          const int32_t count = shape.channels - c < kPiece ? shape.channels - c : kPiece;
          sums[i] += UnpackUnsigned(source.values, begin, count, values);
          begin += count;
          for (int32_t k = 0; k < count; k += kKr, group += kGroupBytes) {
            uint32_t four;
            std::memcpy(&four, values + k, sizeof four);
            AddNibbles(four, bit, group);
          }
        }
      }
    }
    WriteChannelSection(source, n_begin, shape.n, kNr, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

template <int kRows>
struct Sums {
  __m256i wide[kRows][2];    // int32, eight channels each
  __m256i narrow[kRows][2];  // int16, two for each channel
};

template <int kRows>
inline void Widen(Sums<kRows>& sums) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256i pairs = _mm256_madd_epi16(sums.narrow[m][v], _mm256_set1_epi16(1));
      sums.wide[m][v] = _mm256_add_epi32(sums.wide[m][v], pairs);
      sums.narrow[m][v] = _mm256_setzero_si256();
    }
  }
}

struct WeightPair {
  __m256i low;
  __m256i high;
};

inline WeightPair DecodeWeights(const uint8_t* group) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(group));
  return {_mm256_and_si256(bytes, nibble), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble)};
}

inline void Accumulate(const WeightPair& weights, int32_t four, __m256i (&narrow)[2]) {
  const __m256i a = _mm256_set1_epi32(four);
  narrow[0] = _mm256_add_epi16(narrow[0], _mm256_maddubs_epi16(weights.low, a));
  narrow[1] = _mm256_add_epi16(narrow[1], _mm256_maddubs_epi16(weights.high, a));
}

template <int kRows>
void SumNibbles(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group, Sums<kRows>& sums) {
  const int32_t tail = shape.channels % kKr;
  const int32_t whole = shape.channels - tail;
  int32_t room = kGroupsIn16Bits;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    int32_t c = 0;
    while (c < whole) {
      const int32_t left = (whole - c) / kKr;
      const int32_t groups = left < room ? left : room;
      for (const int32_t end = c + groups * kKr; c < end; c += kKr, group += kGroupBytes) {
        const WeightPair weights = DecodeWeights(group);
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) Accumulate(weights, LoadFour(rows[m] + c), sums.narrow[m]);
      }
      room -= groups;
      if (room == 0) {
        Widen(sums);
        room = kGroupsIn16Bits;
      }
    }
    if (tail != 0) {
      const WeightPair weights = DecodeWeights(group);
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) Accumulate(weights, LoadTail(rows[m] + whole, tail), sums.narrow[m]);
      group += kGroupBytes;
      if (--room == 0) {
        Widen(sums);
        room = kGroupsIn16Bits;
      }
    }
  }
  Widen(sums);
}

// The sums of the first kRows rows over one block, without the bias and with the offset of the weights.
template <int kRows>
void SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* groups, __m256i (*out)[2]) {
  Sums<kRows> sums;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) sums.wide[m][v] = sums.narrow[m][v] = _mm256_setzero_si256();
  }
  SumNibbles(shape, rows, groups, sums);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) out[m][v] = sums.wide[m][v];
  }
}

using SumFunction = void (*)(const GemmShape&, const int8_t* const*, const uint8_t*, __m256i (*)[2]);
constexpr SumFunction kSumByRows[kMaxRows] = {SumBlock<1>, SumBlock<2>, SumBlock<3>, SumBlock<4>};

void Run(const GemmShape& shape, const GemmTile& tile) {
  int32_t corrections[kMr];
  for (int32_t m = 0; m < tile.m; ++m) {
    uint32_t sum = 0;
    for (int32_t tap = 0; tap < shape.taps; ++tap) {
      sum += static_cast<uint32_t>(SumOfRow(tile.rows[tap * kMr + m], shape.channels));
    }
    corrections[m] = static_cast<int32_t>(sum * kWeightOffset);  // wraps as the sums do
  }
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RowParts<kMr, kMaxRows> parts(tile.m);
  for (auto at = BlocksOf(kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    __m256i sums[kMr][2];
    for (int32_t i = 0; i < parts.count; ++i) {
      const int32_t m = parts.begin[i];
      const SumFunction sum = kSumByRows[parts.begin[i + 1] - m - 1];
      sum(shape, tile.rows + m, at.packed + ChannelSectionBytes(kNr), sums + m);
    }
    const int32_t* bias = reinterpret_cast<const int32_t*>(at.packed);
    const int32_t columns = tile.n_end - at.n < kNr ? tile.n_end - at.n : kNr;
    const TileBlock block = {bias, at.n, columns, ties_away_begin, corrections, at.out};
    FinishBlock16(shape, tile, block, sums);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_32x16c4_avx2 = {
    "gemm_qs8_qs4cw_32x16c4_avx2", CpuTier::kAvx2, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
