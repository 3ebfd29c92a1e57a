// GEMM on AVX-512 VNNI. Weights are stored as w + 8 (0..15), unsigned beside signed activations. A byte holds two, and
// only one of them is cut out: VPDPBUSD takes the whole byte, low + 16 * high, and the byte with its low half cleared,
// 16 * high. At the end the difference of the two sums is that of the low nibbles, and a shift takes the 16 off the
// other. What the +8 adds, 8 * sum(row), goes into the sums before they start.
#include <cstring>

#include "delegates/int4/kernels/avx512_vnni/output_stage_avx512.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 8;
constexpr int32_t kNr = 32;
constexpr int32_t kKr = 4;
constexpr size_t kGroupBytes = kNr * kKr / 2;
constexpr int32_t kWeightOffset = 8;
// 16 times as many products stay within 32 bits.
constexpr int32_t kMaxDepth = 1 << 16;

size_t GroupsOfTap(const GemmShape& shape) { return (size_t(shape.channels) + kKr - 1) / kKr; }

size_t BlockBytes(const GemmShape& shape) {
  return RoundUp(ChannelSectionBytes(kNr) + shape.taps * GroupsOfTap(shape) * kGroupBytes, kPackedAlignment);
}

size_t PackedBytes(const GemmShape& shape) { return RoundUp(shape.n, kNr) / kNr * BlockBytes(shape); }

// Byte 4 * i + k of a group: channel i in the low nibble, channel i + 16 in the high one. Padding is 0, which adds
// nothing.
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes(shape)) {
    int32_t sums[kNr] = {};
    for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
      const size_t weights = (n_begin + i) * depth;
      sums[i] = SumOfWeights(source.values, weights, depth, 1);
      uint8_t* groups = block + ChannelSectionBytes(kNr) + i % 16 * kKr;
      for (int32_t tap = 0; tap < shape.taps; ++tap, groups += GroupsOfTap(shape) * kGroupBytes) {
        for (int32_t c = 0; c < shape.channels; ++c) {
          const int32_t value = ValueAt(source.values, weights + size_t(tap) * shape.channels + c) + kWeightOffset;
          groups[c / kKr * kGroupBytes + c % kKr] |= static_cast<uint8_t>(value << (i / 16 * 4));
        }
      }
    }
    WriteChannelSection(source, n_begin, shape.n, kNr, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

inline int32_t LoadFour(const int8_t* from) {
  int32_t four;
  std::memcpy(&four, from, 4);
  return four;
}

// One to three channels that end a row; the rest meets weights of zero.
inline int32_t LoadTail(const int8_t* from, int32_t count) {
  return _mm_cvtsi128_si32(_mm_maskz_loadu_epi8(static_cast<__mmask16>((1 << count) - 1), from));
}

int32_t SumOfRow(const int8_t* row, int32_t channels) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums = _mm512_setzero_si512();
  int32_t c = 0;
  for (; c + 64 <= channels; c += 64) sums = _mm512_dpbusd_epi32(sums, ones, _mm512_loadu_si512(row + c));
  if (c < channels) {
    const __mmask64 rest = ~uint64_t{0} >> (64 - (channels - c));
    sums = _mm512_dpbusd_epi32(sums, ones, _mm512_maskz_loadu_epi8(rest, row + c));
  }
  return _mm512_reduce_add_epi32(sums);
}

// Which of a block's columns a pass sums up.
enum class Columns { kLow, kHigh, kBoth };

// Sums of a tile, sixteen columns to a vector: of the low nibbles or of the high ones. Passes over both have sums over
// whole bytes in `low` and 16 times those of the high nibbles in `high` until they are done.
template <int kRows>
struct Sums {
  __m512i low[kRows];
  __m512i high[kRows];
};

template <int kRows, Columns columns>
inline void Accumulate(const uint8_t* group, const int32_t (&fours)[kRows], Sums<kRows>& sums) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i bytes = _mm512_load_si512(group);
  const __m512i low = columns == Columns::kLow ? _mm512_and_si512(bytes, nibble) : bytes;
  const __m512i high = columns == Columns::kHigh ? _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble)
                                                 : _mm512_andnot_si512(nibble, bytes);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const __m512i a = _mm512_set1_epi32(fours[m]);
    if (columns != Columns::kHigh) sums.low[m] = _mm512_dpbusd_epi32(sums.low[m], low, a);
    if (columns != Columns::kLow) sums.high[m] = _mm512_dpbusd_epi32(sums.high[m], high, a);
  }
}

// What a tile needs of its input: pointers to the rows, and 8 times the sum of each.
struct Input {
  const int8_t* const* rows;
  const int32_t* corrections;
};

// The sums of the first kRows rows over one block, without the bias.
template <int kRows, Columns columns>
void SumBlock(const GemmShape& shape, const Input& input, const uint8_t* group, __m512i (*out)[2]) {
  Sums<kRows> sums;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_set1_epi32(input.corrections[m]));
    const __m512i start_high = _mm512_slli_epi32(start, 4);
    sums.low[m] = columns == Columns::kBoth ? _mm512_add_epi32(start, start_high) : start;
    sums.high[m] = columns == Columns::kBoth ? start_high : start;
  }
  const int32_t tail = shape.channels % kKr;
  const int32_t whole = shape.channels - tail;
  const int8_t* const* rows = input.rows;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    const int8_t* row[kRows];
    int32_t fours[kRows];
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) row[m] = rows[m];
    for (int32_t c = 0; c < whole; c += kKr, group += kGroupBytes) {
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) fours[m] = LoadFour(row[m] + c);
      Accumulate<kRows, columns>(group, fours, sums);
    }
    if (tail != 0) {
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) fours[m] = LoadTail(row[m] + whole, tail);
      Accumulate<kRows, columns>(group, fours, sums);
      group += kGroupBytes;
    }
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    if (columns == Columns::kBoth) {
      sums.low[m] = _mm512_sub_epi32(sums.low[m], sums.high[m]);
      sums.high[m] = _mm512_srai_epi32(sums.high[m], 4);
    }
    if (columns != Columns::kHigh) out[m][0] = sums.low[m];
    if (columns != Columns::kLow) out[m][1] = sums.high[m];
  }
}

using SumFunction = void (*)(const GemmShape&, const Input&, const uint8_t*, __m512i (*)[2]);

template <Columns columns>
SumFunction SumOf(int32_t rows) {
  constexpr SumFunction kByRows[kMr] = {SumBlock<1, columns>, SumBlock<2, columns>, SumBlock<3, columns>,
                                        SumBlock<4, columns>, SumBlock<5, columns>, SumBlock<6, columns>,
                                        SumBlock<7, columns>, SumBlock<8, columns>};
  return kByRows[rows - 1];
}

// One block of output channels of a tile.
struct Block {
  const int32_t* bias;  // multipliers and shifts follow
  int32_t n;            // first channel
  int32_t columns;
  int32_t ties_away_begin;
  int8_t* out;
};

// Up to 16 columns, whose sums are in the first vectors.
template <StageForm form>
void FinishHalf(const GemmTile& tile, const Block& block, const __m512i (*sums)[2]) {
  const __m512i bias = _mm512_load_si512(block.bias);
  const ScaleAvx512 scale = MakeScaleAvx512<form>(block.bias + kNr, block.bias + 2 * kNr, ChannelsFrom(block.n),
                                                  block.ties_away_begin, tile.stage);
  const __m128i least = _mm_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m128i most = _mm_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __mmask16 used = static_cast<__mmask16>(0xffff >> (16 - block.columns));
  for (int32_t m = 0; m < tile.m; ++m) {
    const __m512i value = ApplyOutputStageAvx512<form>(_mm512_add_epi32(sums[m][0], bias), scale);
    const __m128i bytes = _mm_min_epi8(_mm_max_epi8(_mm512_cvtsepi32_epi8(value), least), most);
    _mm_mask_storeu_epi8(block.out + m * tile.out_stride, used, bytes);
  }
}

// Two rows at a time: their bytes are narrowed together.
template <StageForm form>
void FinishBoth(const GemmTile& tile, const Block& block, const __m512i (*sums)[2]) {
  __m512i bias[2];
  ScaleAvx512 scales[2];
  for (int v = 0; v < 2; ++v) {
    bias[v] = _mm512_load_si512(block.bias + 16 * v);
    scales[v] = MakeScaleAvx512<form>(block.bias + kNr + 16 * v, block.bias + 2 * kNr + 16 * v,
                                      ChannelsFrom(block.n + 16 * v), block.ties_away_begin, tile.stage);
  }
  const __m512i least = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m512i most = _mm512_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __mmask32 used = ~uint32_t{0} >> (32 - block.columns);
  for (int32_t m = 0; m < tile.m; m += 2) {
    const int32_t second = m + 1 < tile.m ? m + 1 : m;
    __m512i words[2];
    TFQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const __m512i* sum = sums[i == 0 ? m : second];
      words[i] = _mm512_packs_epi32(ApplyOutputStageAvx512<form>(_mm512_add_epi32(sum[0], bias[0]), scales[0]),
                                    ApplyOutputStageAvx512<form>(_mm512_add_epi32(sum[1], bias[1]), scales[1]));
    }
    const __m512i clamped = _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(words[0], words[1]), least), most);
    const __m512i bytes = _mm512_permutexvar_epi32(in_order, clamped);
    int8_t* to = block.out + m * tile.out_stride;
    _mm256_mask_storeu_epi8(to, used, _mm512_castsi512_si256(bytes));
    if (second != m) _mm256_mask_storeu_epi8(to + tile.out_stride, used, _mm512_extracti64x4_epi64(bytes, 1));
  }
}

template <StageForm form>
void Finish(const GemmTile& tile, const Block& block, const __m512i (*sums)[2]) {
  if (block.columns <= 16) return FinishHalf<form>(tile, block, sums);
  FinishBoth<form>(tile, block, sums);
}

void Run(const GemmShape& shape, const GemmTile& tile) {
  int32_t corrections[kMr] = {};
  for (int32_t tap = 0; tap < shape.taps; ++tap) {
    for (int32_t m = 0; m < tile.m; ++m) {
      corrections[m] = WrappingAdd(corrections[m], kWeightOffset * SumOfRow(tile.rows[tap * kMr + m], shape.channels));
    }
  }
  const Input input = {tile.rows, corrections};
  const bool deep = int64_t{shape.taps} * shape.channels > kMaxDepth;
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const SumFunction sum_low = SumOf<Columns::kLow>(tile.m), sum_high = SumOf<Columns::kHigh>(tile.m);
  const SumFunction sum_both = SumOf<Columns::kBoth>(tile.m);
  const size_t block_bytes = BlockBytes(shape);
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr * block_bytes;
  int8_t* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, packed += block_bytes, out += kNr) {
    const int32_t columns = tile.n_end - n < kNr ? tile.n_end - n : kNr;
    const uint8_t* groups = packed + ChannelSectionBytes(kNr);
    __m512i sums[kMr][2];
    if (deep || columns <= 16) {
      sum_low(shape, input, groups, sums);
      if (columns > 16) sum_high(shape, input, groups, sums);
    } else {
      sum_both(shape, input, groups, sums);
    }
    const int32_t* bias = reinterpret_cast<const int32_t*>(packed);
    const Block block = {bias, n, columns, ties_away_begin, out};
    switch (StageFormOf(bias + kNr, bias + 2 * kNr, 2, shape.n, n + columns, tile.stage)) {
      case StageForm::kShort:
        Finish<StageForm::kShort>(tile, block, sums);
        break;
      case StageForm::kGeneral:
        Finish<StageForm::kGeneral>(tile, block, sums);
        break;
      case StageForm::kAway:
        Finish<StageForm::kAway>(tile, block, sums);
        break;
    }
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_8x32c4_avx512_vnni = {
    "gemm_qs8_qs4cw_8x32c4_avx512_vnni", CpuTier::kAvx512Vnni, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
