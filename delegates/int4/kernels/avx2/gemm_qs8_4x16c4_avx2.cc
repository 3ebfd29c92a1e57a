// Matrix products on AVX2, of 4- and 8-bit weights. Weights are stored as w + 8 (0..15) and stay unsigned: maddubs
// takes them beside signed activations, its sums of two products stay below 2 * 15 * 128, and eight of them fit 16 bits
// before they are widened. What the +8 adds, 8 * sum(row), is taken off at the end; the sums of the rows are made once
// for all channels. Weights of 8 bits, w + 128, are two such nibbles: the sums of the upper ones are widened 16 times
// as large.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/avx2/output_stage_avx2.h"
#include "delegates/int4/kernels/avx2/rows_avx2.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4;
constexpr int32_t kNr = 16;
constexpr int32_t kKr = 4;
constexpr size_t kPlaneBytes = kNr * kKr / 2;  // nibbles of a group, two of them a byte
constexpr int32_t kGroupsIn16Bits = 8;

template <int32_t bits>
constexpr size_t kGroupBytes = kPlaneBytes* bits / 4;

template <int32_t bits>
constexpr int32_t kWeightOffset = 1 << (bits - 1);

size_t GroupsOfTap(const GemmShape& shape) { return (size_t(shape.channels) + kKr - 1) / kKr; }

template <int32_t bits>
size_t BlockBytes(const GemmShape& shape) {
  return RoundUp(ChannelSectionBytes(kNr) + shape.taps * GroupsOfTap(shape) * kGroupBytes<bits>, kPackedAlignment);
}

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(shape.n, kNr) / kNr * BlockBytes<bits>(shape);
}

inline void AddNibbles(uint32_t nibbles, int32_t bit, uint8_t* to) {
  uint32_t others;
  std::memcpy(&others, to, sizeof others);
  others |= nibbles << bit;
  std::memcpy(to, &others, sizeof others);
}

// Byte 4 * i + k of a group: channel i in the low nibble, channel i + 8 in the high one. Of 8 bits, the lower nibbles
// come so, then the upper ones. Padding is 0, which adds nothing.
template <int32_t bits>
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  constexpr int32_t kPiece = 64 * kKr;
  constexpr uint32_t kLowNibbles = 0x0f0f0f0f;
  std::memset(packed, 0, PackedBytes<bits>(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes<bits>(shape)) {
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
          for (int32_t k = 0; k < count; k += kKr, group += kGroupBytes<bits>) {
            uint32_t four;
            std::memcpy(&four, values + k, sizeof four);
            AddNibbles(four & kLowNibbles, bit, group);
            if (bits == 8) AddNibbles(four >> 4 & kLowNibbles, bit, group + kPlaneBytes);
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

// The sums in 16 bits, times `factor`, go to those in 32.
template <int16_t factor, int kRows>
inline void Widen(Sums<kRows>& sums) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256i pairs = _mm256_madd_epi16(sums.narrow[m][v], _mm256_set1_epi16(factor));
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

// Of 4-bit weights: taps follow each other in the sums of 16 bits.
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
      for (const int32_t end = c + groups * kKr; c < end; c += kKr, group += kPlaneBytes) {
        const WeightPair weights = DecodeWeights(group);
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) Accumulate(weights, LoadFour(rows[m] + c), sums.narrow[m]);
      }
      room -= groups;
      if (room == 0) {
        Widen<1>(sums);
        room = kGroupsIn16Bits;
      }
    }
    if (tail != 0) {
      const WeightPair weights = DecodeWeights(group);
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) Accumulate(weights, LoadTail(rows[m] + whole, tail), sums.narrow[m]);
      group += kPlaneBytes;
      if (--room == 0) {
        Widen<1>(sums);
        room = kGroupsIn16Bits;
      }
    }
  }
  Widen<1>(sums);
}

// Channels c .. c + count of a tap, at most as many groups as fit 16 bits, times one nibble of 8-bit weights.
template <int kRows>
inline void SumPlane(const int8_t* const* rows, int32_t c, int32_t count, const uint8_t* plane, Sums<kRows>& sums) {
  const int32_t tail = count % kKr;
  const int32_t end = c + count - tail;
  for (; c < end; c += kKr, plane += kGroupBytes<8>) {
    const WeightPair weights = DecodeWeights(plane);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) Accumulate(weights, LoadFour(rows[m] + c), sums.narrow[m]);
  }
  if (tail == 0) return;
  const WeightPair weights = DecodeWeights(plane);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) Accumulate(weights, LoadTail(rows[m] + c, tail), sums.narrow[m]);
}

template <int kRows>
void SumBytes(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group, Sums<kRows>& sums) {
  constexpr int32_t kPiece = kGroupsIn16Bits * kKr;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    for (int32_t c = 0; c < shape.channels; c += kPiece) {
      const int32_t count = shape.channels - c < kPiece ? shape.channels - c : kPiece;
      SumPlane(rows, c, count, group, sums);
      Widen<1>(sums);
      SumPlane(rows, c, count, group + kPlaneBytes, sums);
      Widen<16>(sums);
      group += (count + kKr - 1) / kKr * kGroupBytes<8>;
    }
  }
}

// The sums of the first kRows rows over one block, without the bias and with the offset of the weights.
template <int32_t bits, int kRows>
void SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* groups, __m256i (*out)[2]) {
  Sums<kRows> sums;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) sums.wide[m][v] = sums.narrow[m][v] = _mm256_setzero_si256();
  }
  if (bits == 8) {
    SumBytes(shape, rows, groups, sums);
  } else {
    SumNibbles(shape, rows, groups, sums);
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) out[m][v] = sums.wide[m][v];
  }
}

// One block of output channels of a tile.
struct Block {
  const int32_t* bias;  // multipliers and shifts follow
  int32_t n;            // first channel
  int32_t columns;
  int32_t ties_away_begin;
  const int32_t* corrections;  // what the offset of the weights added to the sums of each row
  int8_t* out;
};

inline void StoreColumns(__m128i bytes, int32_t columns, int8_t* to) {
  if (columns == kNr) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  } else {
    alignas(16) int8_t part[kNr];
    _mm_store_si128(reinterpret_cast<__m128i*>(part), bytes);
    std::memcpy(to, part, columns);
  }
}

// Two rows at a time: their bytes are narrowed together.
template <StageForm form>
void FinishBlock(const GemmTile& tile, const Block& block, const __m256i (*sums)[2]) {
  __m256i bias[2];
  ScaleAvx2 scales[2];
  TFQ_UNROLL
  for (int v = 0; v < 2; ++v) {
    bias[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(block.bias + 8 * v));
    scales[v] = MakeScaleOfForm<form>(block.bias + kNr + 8 * v, block.bias + 2 * kNr + 8 * v, block.n + 8 * v,
                                      block.ties_away_begin, tile.stage);
  }
  const __m256i least = _mm256_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m256i most = _mm256_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int32_t m = 0; m < tile.m; m += 2) {
    const int32_t second = m + 1 < tile.m ? m + 1 : m;
    __m256i words[2];
    TFQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int32_t row = i == 0 ? m : second;
      const __m256i correction = _mm256_set1_epi32(block.corrections[row]);
      __m256i values[2];
      TFQ_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m256i sum = _mm256_add_epi32(_mm256_sub_epi32(sums[row][v], correction), bias[v]);
        values[v] = ApplyStageOfForm<form>(sum, scales[v], tile.stage);
      }
      words[i] = _mm256_packs_epi32(values[0], values[1]);
    }
    const __m256i clamped = _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(words[0], words[1]), least), most);
    const __m256i rows = _mm256_permutevar8x32_epi32(clamped, in_order);
    int8_t* to = block.out + m * tile.out_stride;
    StoreColumns(_mm256_castsi256_si128(rows), block.columns, to);
    if (second != m) StoreColumns(_mm256_extracti128_si256(rows, 1), block.columns, to + tile.out_stride);
  }
}

template <int32_t bits, int kRows>
void RunRows(const GemmShape& shape, const GemmTile& tile) {
  int32_t corrections[kRows];
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    uint32_t sum = 0;
    for (int32_t tap = 0; tap < shape.taps; ++tap) {
      sum += static_cast<uint32_t>(SumOfRow(tile.rows[tap * kMr + m], shape.channels));
    }
    corrections[m] = static_cast<int32_t>(sum * kWeightOffset<bits>);  // wraps as the sums do
  }
  const size_t block_bytes = BlockBytes<bits>(shape);
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr * block_bytes;
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  int8_t* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, packed += block_bytes, out += kNr) {
    __m256i sums[kRows][2];
    SumBlock<bits, kRows>(shape, tile.rows, packed + ChannelSectionBytes(kNr), sums);
    const int32_t* bias = reinterpret_cast<const int32_t*>(packed);
    const int32_t columns = tile.n_end - n < kNr ? tile.n_end - n : kNr;
    const Block block = {bias, n, columns, ties_away_begin, corrections, out};
    switch (StageFormAvx2(bias + kNr, bias + 2 * kNr, 2, shape.n, n + columns, tile.stage)) {
      case StageForm::kShort:
        FinishBlock<StageForm::kShort>(tile, block, sums);
        break;
      case StageForm::kGeneral:
        FinishBlock<StageForm::kGeneral>(tile, block, sums);
        break;
      case StageForm::kAway:
        FinishBlock<StageForm::kAway>(tile, block, sums);
        break;
    }
  }
}

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  switch (tile.m) {
    case 1:
      return RunRows<bits, 1>(shape, tile);
    case 2:
      return RunRows<bits, 2>(shape, tile);
    case 3:
      return RunRows<bits, 3>(shape, tile);
    default:
      return RunRows<bits, 4>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_4x16c4_avx2 = {
    "gemm_qs8_qs4cw_4x16c4_avx2", CpuTier::kAvx2, kQs4cw, kMr, kNr, kKr, PackedBytes<4>, Pack<4>, Run<4>,
};

const GemmKernel gemm_qs8_qs8cw_4x16c4_avx2 = {
    "gemm_qs8_qs8cw_4x16c4_avx2", CpuTier::kAvx2, kQs8cw, kMr, kNr, kKr, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
