// Matrix products in blocks of 32 output channels and groups of 4 input channels, of 4- and 8-bit weights: what the
// kernels on AVX-512 VNNI and AMX share.
//
// For VPDPBUSD, weights are stored with an offset that makes them unsigned beside signed activations: w + 8 or w + 128.
// Of 4-bit weights a byte holds two, and only one of them is cut out: the sums are of the whole byte, low + 16 * high,
// and of the byte with its low half cleared, 16 * high. At the end the difference of the two is that of the low
// nibbles, and a shift takes the 16 off the other. What the offset adds, offset * sum(row), goes into the sums before
// they start.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_GEMM_32C4_AVX512_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_GEMM_32C4_AVX512_H_

#include <cstring>

#include "delegates/int4/kernels/avx512_vnni/output_stage_avx512.h"
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

constexpr int32_t kNr32 = 32;
constexpr int32_t kKr4 = 4;
constexpr int32_t kMaxRows = 8;  // whose sums fit the registers

// 16 times as many products of 4-bit weights stay within 32 bits.
template <int32_t bits>
static constexpr int64_t kMaxDepth32c4 = bits == 4 ? 1 << 16 : INT64_MAX;

static constexpr size_t GroupBytes(int32_t bits) { return static_cast<size_t>(kNr32 * kKr4 * bits / 8); }

static inline size_t GroupsOfTap(const GemmShape& shape) { return (size_t(shape.channels) + kKr4 - 1) / kKr4; }

template <int32_t bits>
static size_t BlockBytes32c4(const GemmShape& shape) {
  return RoundUp(ChannelsBytesAvx512(kNr32) + shape.taps * GroupsOfTap(shape) * GroupBytes(bits), kPackedAlignment);
}

template <int32_t bits>
static size_t PackedBytes32c4(const GemmShape& shape) {
  return RoundUp(shape.n, kNr32) / kNr32 * BlockBytes32c4<bits>(shape);
}

// How weights lie in memory: unsigned as w + 8 or w + 128, or signed in two's complement.
enum class Stored { kUnsigned, kSigned };

// A group has four bytes for each channel. Of 8 bits: channels 0 to 31 one after the other. Of 4 bits: channel i in the
// low nibbles of the bytes from 4 * i on, channel i + 16 in the high ones. Padding meets
// activations of 0 or outputs that nobody takes.
//
// Packs `channels` values from number `begin` on into the groups of one tap, those of output channel i of the block.
// Returns their sum.
template <int32_t bits, Stored stored>
static int32_t PackChannels32c4(const WeightValues& source, size_t begin, int32_t channels, int32_t i,
                                uint8_t* groups) {
  constexpr int32_t kPiece = 64 * kKr4;
  const int32_t place = bits == 8 ? i : i % 16;
  const int32_t bit = bits == 8 ? 0 : i / 16 * 4;
  uint8_t* group = groups + place * kKr4;
  int32_t sum = 0;
  for (int32_t c = 0; c < channels; c += kPiece) {
    uint8_t values[kPiece] = {};
    const int32_t count = channels - c < kPiece ? channels - c : kPiece;
    sum += UnpackUnsigned(source, begin + c, count, values);
    for (int32_t k = 0; k < count; k += kKr4, group += GroupBytes(bits)) {
      uint32_t four, others;
      std::memcpy(&four, values + k, kKr4);
      if (stored == Stored::kSigned) four ^= bits == 8 ? 0x80808080 : 0x08080808;
      std::memcpy(&others, group, kKr4);
      others |= four << bit;
      std::memcpy(group, &others, kKr4);
    }
  }
  return sum;
}

template <int32_t bits, Stored stored>
static void Pack32c4(const GemmShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes32c4<bits>(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr32, block += BlockBytes32c4<bits>(shape)) {
    int32_t sums[kNr32] = {};
    for (int32_t i = 0; i < kNr32 && n_begin + i < shape.n; ++i) {
      uint8_t* groups = block + ChannelsBytesAvx512(kNr32);
      size_t begin = (n_begin + i) * depth;
      for (int32_t tap = 0; tap < shape.taps; ++tap, begin += shape.channels) {
        sums[i] += PackChannels32c4<bits, stored>(source.values, begin, shape.channels, i, groups);
        groups += GroupsOfTap(shape) * GroupBytes(bits);
      }
    }
    int32_t section[3 * kNr32];
    WriteChannelSection(source, n_begin, shape.n, kNr32, source.input_zero_point, sums, section);
    WriteChannelsAvx512<kNr32>(
        section, [](int32_t channel) { return channel; }, block);
  }
}

static inline int32_t LoadFour(const int8_t* from) {
  int32_t four;
  std::memcpy(&four, from, 4);
  return four;
}

// One to three channels that end a row; the rest meets weights of zero.
static inline int32_t LoadTail(const int8_t* from, int32_t count) {
  return _mm_cvtsi128_si32(_mm_maskz_loadu_epi8(static_cast<__mmask16>((1 << count) - 1), from));
}

// Which of a block's columns a pass sums up.
enum class Columns { kLow, kHigh, kBoth };

// Sums of a tile, sixteen columns to a vector. Of 4-bit weights, passes over both have sums over whole bytes in `low`
// and 16 times those of the high nibbles in `high` until they are done.
template <int kRows>
struct Sums {
  __m512i low[kRows];
  __m512i high[kRows];
};

static inline void SplitWholeBytes(__m512i* low, __m512i* high) {
  *low = _mm512_sub_epi32(*low, *high);
  *high = _mm512_srai_epi32(*high, 4);
}

// Sums that a row has of each vector of columns: with few rows, products would wait for the ones before them.
static constexpr int32_t ChainsOf(int32_t rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

template <int32_t bits, Columns columns>
static constexpr bool kWholeBytes = bits == 4 && columns == Columns::kBoth;

template <int32_t bits, int kRows, Columns columns>
static inline void Accumulate(const uint8_t* group, const int32_t (&fours)[kRows], Sums<kRows>& sums) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i bytes = _mm512_load_si512(group);
  __m512i low = bytes, high = bytes;
  if (bits == 8) {
    if (columns != Columns::kLow) high = _mm512_load_si512(group + 64);
  } else if (columns == Columns::kLow) {
    low = _mm512_and_si512(bytes, nibble);
  } else {
    high = columns == Columns::kBoth ? _mm512_andnot_si512(nibble, bytes)
                                     : _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const __m512i a = _mm512_set1_epi32(fours[m]);
    if (columns != Columns::kHigh) sums.low[m] = _mm512_dpbusd_epi32(sums.low[m], low, a);
    if (columns != Columns::kLow) sums.high[m] = _mm512_dpbusd_epi32(sums.high[m], high, a);
  }
}

// What a tile needs of its input: rows[tap * step + m], and the weights' offset times the sum of each row.
struct TileInput {
  const int8_t* const* rows;
  int32_t step;
  const int32_t* corrections;
};

// The sums of the first kRows rows over one block, without the bias.
template <int32_t bits, int kRows, Columns columns>
TFQ_SUMS_STAY static void SumBlock(const GemmShape& shape, const TileInput& input, const uint8_t* group,
                                   __m512i (*out)[2]) {
  constexpr int32_t kChains = ChainsOf(kRows);
  Sums<kRows> sums[kChains];
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_set1_epi32(input.corrections[m]));
    const __m512i start_high = _mm512_slli_epi32(start, 4);
    sums[0].low[m] = kWholeBytes<bits, columns> ? _mm512_add_epi32(start, start_high) : start;
    sums[0].high[m] = kWholeBytes<bits, columns> ? start_high : start;
    TFQ_UNROLL
    for (int chain = 1; chain < kChains; ++chain) sums[chain].low[m] = sums[chain].high[m] = _mm512_setzero_si512();
  }
  const int32_t tail = shape.channels % kKr4;
  const int32_t whole = shape.channels - tail;
  const int8_t* const* rows = input.rows;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += input.step) {
    const int8_t* row[kRows];
    int32_t fours[kRows];
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) row[m] = rows[m];
    int32_t c = 0;
    const auto add_group = [&](Sums<kRows>& chain) {
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) fours[m] = LoadFour(row[m] + c);
      Accumulate<bits, kRows, columns>(group, fours, chain);
      c += kKr4;
      group += GroupBytes(bits);
    };
    if (kChains > 1) {
      while (c + kChains * kKr4 <= whole) {
        TFQ_UNROLL
        for (int chain = 0; chain < kChains; ++chain) add_group(sums[chain]);
      }
    }
    while (c < whole) add_group(sums[0]);
    if (tail != 0) {
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) fours[m] = LoadTail(row[m] + whole, tail);
      Accumulate<bits, kRows, columns>(group, fours, sums[0]);
      group += GroupBytes(bits);
    }
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    __m512i low = sums[0].low[m], high = sums[0].high[m];
    TFQ_UNROLL
    for (int chain = 1; chain < kChains; ++chain) {
      low = _mm512_add_epi32(low, sums[chain].low[m]);
      high = _mm512_add_epi32(high, sums[chain].high[m]);
    }
    if (kWholeBytes<bits, columns>) SplitWholeBytes(&low, &high);
    if (columns != Columns::kHigh) out[m][0] = low;
    if (columns != Columns::kLow) out[m][1] = high;
  }
}

using SumFunction = void (*)(const GemmShape&, const TileInput&, const uint8_t*, __m512i (*)[2]);

template <int32_t bits, Columns columns>
static SumFunction SumOf(int32_t rows) {
  static constexpr SumFunction kByRows[kMaxRows] = {
      SumBlock<bits, 1, columns>, SumBlock<bits, 2, columns>, SumBlock<bits, 3, columns>, SumBlock<bits, 4, columns>,
      SumBlock<bits, 5, columns>, SumBlock<bits, 6, columns>, SumBlock<bits, 7, columns>, SumBlock<bits, 8, columns>};
  return kByRows[rows - 1];
}

// The sums of `columns` columns of a block and as many rows as there are corrections; of deep sums, each half on its
// own.
template <int32_t bits>
static inline void SumColumns(const GemmShape& shape, const TileInput& input, int32_t rows, int32_t columns, bool deep,
                              const uint8_t* groups, __m512i (*sums)[2]) {
  if (deep || columns <= 16) {
    SumOf<bits, Columns::kLow>(rows)(shape, input, groups, sums);
    if (columns > 16) SumOf<bits, Columns::kHigh>(rows)(shape, input, groups, sums);
  } else {
    SumOf<bits, Columns::kBoth>(rows)(shape, input, groups, sums);
  }
}

// Row sums in vectors that have kEach rows side by side: rows kEach * i to kEach * i + kEach - 1 in v[i].
template <int kEach>
static inline __m256i SumsOfLanes(const __m512i (&v)[kMaxRows / kEach]) {
  if constexpr (kEach == 4) {
    const __m512i pairs = _mm512_add_epi32(_mm512_unpacklo_epi64(v[0], v[1]), _mm512_unpackhi_epi64(v[0], v[1]));
    const __m512i sums = _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_CDAB));
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castsi512_si256(_mm512_permutexvar_epi32(in_order, sums));
  } else {
    constexpr int kFirst = kEach == 1 ? 0x44 : 0x88, kSecond = kEach == 1 ? 0xee : 0xdd;
    __m512i joined[kMaxRows / kEach / 2];
    TFQ_UNROLL
    for (int i = 0; i < kMaxRows / kEach / 2; ++i) {
      joined[i] = _mm512_add_epi32(_mm512_shuffle_i64x2(v[2 * i], v[2 * i + 1], kFirst),
                                   _mm512_shuffle_i64x2(v[2 * i], v[2 * i + 1], kSecond));
    }
    return SumsOfLanes<2 * kEach>(joined);
  }
}

// The sums of the first `rows` rows, of kMaxRows the rest of which are copies; of rows of up to 64 / kEach channels, or
// of any number with kEach 1.
template <int kEach>
static inline __m256i SumsOfRows(const GemmShape& shape, const int8_t* const* tile_rows, int32_t step, int32_t rows) {
  constexpr int32_t kWidth = 64 / kEach;
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums[kMaxRows / kEach];  // each lane a part
  TFQ_UNROLL
  for (int i = 0; i < kMaxRows / kEach; ++i) sums[i] = _mm512_setzero_si512();
  for (int32_t tap = 0; tap < shape.taps; ++tap, tile_rows += step) {
    const int8_t* row[kMaxRows];
    TFQ_UNROLL
    for (int m = 0; m < kMaxRows; ++m) row[m] = tile_rows[m < rows ? m : rows - 1];
    for (int32_t c = 0; c < shape.channels; c += kWidth) {
      const int32_t left = shape.channels - c;
      const __mmask64 used = ~uint64_t{0} >> (left < kWidth ? 64 - left : 64 - kWidth);
      TFQ_UNROLL
      for (int i = 0; i < kMaxRows / kEach; ++i) {
        __m512i bytes = _mm512_maskz_loadu_epi8(used, row[kEach * i] + c);
        TFQ_UNROLL
        for (int place = 1; place < kEach; ++place) {
          // Only what the mask has is read.
          const int8_t* from = row[kEach * i + place] + c - place * kWidth;
          bytes = _mm512_mask_loadu_epi8(bytes, used << (place * kWidth), from);
        }
        sums[i] = _mm512_dpbusd_epi32(sums[i], ones, bytes);
      }
    }
  }
  return SumsOfLanes<kEach>(sums);
}

// The weights' offset times the sum of each of the first `rows` rows; wraps as the sums do. Writes kMaxRows of them.
template <int32_t bits>
static inline void RowCorrections(const GemmShape& shape, const int8_t* const* rows, int32_t step, int32_t count,
                                  int32_t* corrections) {
  const __m256i sums = shape.channels <= 16   ? SumsOfRows<4>(shape, rows, step, count)
                       : shape.channels <= 32 ? SumsOfRows<2>(shape, rows, step, count)
                                              : SumsOfRows<1>(shape, rows, step, count);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(corrections), _mm256_slli_epi32(sums, bits - 1));
}

// One block of output channels of a tile of `rows` rows.
struct TileBlock {
  ChannelsAvx512 channels;
  int32_t n;  // first channel
  int32_t columns;
  int32_t ties_away_begin;
  int32_t rows;
  int8_t* out;
};

// Up to 16 columns, whose sums are in the first vectors.
template <StageForm form, bool has_bias>
static void FinishLow(const GemmTile& tile, const TileBlock& block, const __m512i (*sums)[2]) {
  const __m512i bias = _mm512_load_si512(block.channels.bias);
  const ScaleAvx512 scale =
      MakeScaleAvx512<form>(block.channels, ChannelsFrom(block.n), block.ties_away_begin, tile.stage);
  const __m128i least = _mm_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m128i most = _mm_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __mmask16 used = static_cast<__mmask16>(0xffff >> (16 - block.columns));
  for (int32_t m = 0; m < block.rows; ++m) {
    const __m512i sum = has_bias ? sums[m][0] : _mm512_add_epi32(sums[m][0], bias);
    const __m512i value = ApplyOutputStageAvx512<form>(sum, scale);
    const __m128i bytes = _mm_min_epi8(_mm_max_epi8(_mm512_cvtsepi32_epi8(value), least), most);
    _mm_mask_storeu_epi8(block.out + m * tile.out_stride, used, bytes);
  }
}

// Two rows at a time: their bytes are narrowed together.
template <StageForm form, bool has_bias>
static void FinishBoth(const GemmTile& tile, const TileBlock& block, const __m512i (*sums)[2]) {
  __m512i bias[2];
  ScaleAvx512 scales[2];
  for (int v = 0; v < 2; ++v) {
    bias[v] = _mm512_load_si512(block.channels.bias + 16 * v);
    scales[v] = MakeScaleAvx512<form>(block.channels.From(16 * v), ChannelsFrom(block.n + 16 * v),
                                      block.ties_away_begin, tile.stage);
  }
  const __m512i least = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m512i most = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __mmask32 used = ~uint32_t{0} >> (kNr32 - block.columns);
  for (int32_t m = 0; m < block.rows; m += 2) {
    const int32_t second = m + 1 < block.rows ? m + 1 : m;
    __m512i words[2];
    TFQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const __m512i* sum = sums[i == 0 ? m : second];
      const __m512i low = has_bias ? sum[0] : _mm512_add_epi32(sum[0], bias[0]);
      const __m512i high = has_bias ? sum[1] : _mm512_add_epi32(sum[1], bias[1]);
      words[i] = _mm512_packs_epi32(ApplyOutputStageAvx512<form>(low, scales[0]),
                                    ApplyOutputStageAvx512<form>(high, scales[1]));
    }
    const __m512i clamped = _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(words[0], words[1]), least), most);
    const __m512i bytes = _mm512_permutexvar_epi32(in_order, clamped);
    int8_t* to = block.out + m * tile.out_stride;
    _mm256_mask_storeu_epi8(to, used, _mm512_castsi512_si256(bytes));
    if (second != m) _mm256_mask_storeu_epi8(to + tile.out_stride, used, _mm512_extracti64x4_epi64(bytes, 1));
  }
}

template <StageForm form, bool has_bias>
static void FinishForm(const GemmTile& tile, const TileBlock& block, const __m512i (*sums)[2]) {
  if (block.columns <= 16) return FinishLow<form, has_bias>(tile, block, sums);
  FinishBoth<form, has_bias>(tile, block, sums);
}

// From the sums of a block to its outputs; the bias may be part of the sums.
template <bool has_bias>
static void FinishBlock(const GemmShape& shape, const GemmTile& tile, const TileBlock& block,
                        const __m512i (*sums)[2]) {
  switch (StageFormOf(block.channels, 2, shape.n, block.n + block.columns, tile.stage)) {
    case StageForm::kShort:
      return FinishForm<StageForm::kShort, has_bias>(tile, block, sums);
    case StageForm::kGeneral:
      return FinishForm<StageForm::kGeneral, has_bias>(tile, block, sums);
    case StageForm::kAway:
      return FinishForm<StageForm::kAway, has_bias>(tile, block, sums);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_GEMM_32C4_AVX512_H_
