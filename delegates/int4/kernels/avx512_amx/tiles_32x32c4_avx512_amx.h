// Matrix products on AMX, of 4- and 8-bit weights, packed as for AVX-512 VNNI and summed in the same way: whole bytes
// go to the tiles as they lie in memory, and of 4-bit weights a second tile takes them with their low halves cleared.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX512_AMX_TILES_32X32C4_AVX512_AMX_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX512_AMX_TILES_32X32C4_AVX512_AMX_H_

#include <algorithm>

#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"

namespace tfq::int4 {

constexpr int32_t kMr = 32;
constexpr int32_t kTileRows = 16;
constexpr int32_t kStepBytes = 64;  // of a row of activations: a tile's width
constexpr int32_t kStepGroups = kStepBytes / kKr4;

// Tiles: sums of rows 0..15 and 16..31 over low and high columns; two of activations, two of weights.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
#define TFQ_SUM_0_LOW 0
#define TFQ_SUM_0_HIGH 1
#define TFQ_SUM_1_LOW 2
#define TFQ_SUM_1_HIGH 3
#define TFQ_ROWS_0 4
#define TFQ_ROWS_1 5
#define TFQ_WEIGHTS_LOW 6
#define TFQ_WEIGHTS_HIGH 7

static TileConfig ConfigFor(int32_t m) {
  const int32_t first = std::min(m, kTileRows), second = m - first;
  const int32_t rows[8] = {first, first, second, second, first, second, kTileRows, kTileRows};
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = static_cast<uint8_t>(rows[i]);
    config.row_bytes[i] = rows[i] == 0 ? 0 : kStepBytes;
  }
  return config;
}

// The tile instructions read memory behind the compiler's back: what they will read must have been stored.
static inline void StoreForTiles(const void* from) { __asm__ volatile("" : : "r"(from) : "memory"); }

static int32_t Steps(const GemmShape& shape) {
  return static_cast<int32_t>((shape.taps * GroupsOfTap(shape) + kStepGroups - 1) / kStepGroups);
}

// An odd number of cache lines, so that rows do not contend for the same places of the cache.
static size_t CopiedRowBytes(const GemmShape& shape) { return size_t(Steps(shape) | 1) * kStepBytes; }

static size_t ScratchBytes(const GemmShape& shape) { return kMr * CopiedRowBytes(shape); }

// Rows of activations, `stride` bytes apart, whole steps long.
struct Activations {
  const uint8_t* data;
  ptrdiff_t stride;
};

// Rows that tiles can read where they are.
static bool AreEvenlySpaced(const GemmShape& shape, const int8_t* const* rows, int32_t count) {
  if (shape.taps != 1 || shape.channels % kStepBytes != 0) return false;
  for (int32_t m = 2; m < count; ++m) {
    if (rows[m] - rows[m - 1] != rows[1] - rows[0]) return false;
  }
  return true;
}

// Each tap is padded with zeros to whole groups, each row to whole steps.
static Activations CopyRows(const GemmShape& shape, const int8_t* const* rows, int32_t count, void* scratch) {
  const size_t row_bytes = CopiedRowBytes(shape);
  const size_t tap_bytes = GroupsOfTap(shape) * kKr4;
  const size_t padding = tap_bytes - shape.channels;
  uint8_t* row = static_cast<uint8_t*>(scratch);
  for (int32_t m = 0; m < count; ++m, row += row_bytes) {
    uint8_t* to = row;
    for (int32_t tap = 0; tap < shape.taps; ++tap, to += tap_bytes) {
      const int8_t* from = rows[tap * kMr + m];
      int32_t c = 0;
      for (; c + kStepBytes <= shape.channels; c += kStepBytes) {
        _mm512_storeu_si512(to + c, _mm512_loadu_si512(from + c));
      }
      if (c == shape.channels) continue;
      const __mmask64 rest = ~uint64_t{0} >> (kStepBytes - (shape.channels - c));
      const __mmask64 padded = ~uint64_t{0} >> (kStepBytes - (shape.channels - c) - padding);
      _mm512_mask_storeu_epi8(to + c, padded, _mm512_maskz_loadu_epi8(rest, from + c));
    }
    std::memset(to, 0, row + Steps(shape) * kStepBytes - to);
  }
  return {static_cast<const uint8_t*>(scratch), static_cast<ptrdiff_t>(row_bytes)};
}

// What the sums start from: the weights' offset times the sum of each row, taken off.
template <int32_t bits>
static void StartSums(const Activations& rows, int32_t m, int32_t steps, __m512i (*start)[2]) {
  for (int32_t i = 0; i < m; ++i) {
    const int8_t* row = reinterpret_cast<const int8_t*>(rows.data + i * rows.stride);
    const int32_t offset = TimesWeightOffset<bits>(_mm512_reduce_add_epi32(SumOfRow(row, steps * kStepBytes)));
    const __m512i correction = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_set1_epi32(offset));
    start[i][1] = bits == 4 ? _mm512_slli_epi32(correction, 4) : correction;
    start[i][0] = bits == 4 ? _mm512_add_epi32(correction, start[i][1]) : correction;
  }
}

// The weights of a step as tiles read them: where the low and the high columns begin, rows `stride` bytes apart.
struct StepWeights {
  const uint8_t* low;
  const uint8_t* high;
  ptrdiff_t stride;
};

// Room for a step that has to be changed before tiles read it.
struct alignas(64) StepBuffer {
  uint8_t low[kStepGroups * 64];
  uint8_t high[kStepGroups * 64];
};

template <int32_t bits>
static inline StepWeights WeightsOf(const uint8_t* groups, int32_t count, StepBuffer* buffer) {
  if (bits == 8 && count == kStepGroups) return {groups, groups + 64, static_cast<ptrdiff_t>(GroupBytes(8))};
  const __m512i low_half = _mm512_set1_epi8(15);
  for (int32_t i = 0; i < kStepGroups; ++i) {
    const bool there = i < count;
    const uint8_t* group = groups + i * GroupBytes(bits);
    const __m512i bytes = there ? _mm512_load_si512(group) : _mm512_setzero_si512();
    const __m512i high = bits == 4 ? _mm512_andnot_si512(low_half, bytes)
                         : there   ? _mm512_load_si512(group + 64)
                                   : _mm512_setzero_si512();
    if (count < kStepGroups) _mm512_store_si512(buffer->low + 64 * i, bytes);
    _mm512_store_si512(buffer->high + 64 * i, high);
  }
  StoreForTiles(buffer);
  return {count < kStepGroups ? buffer->low : groups, buffer->high, 64};
}

// Sums of one block for up to 32 rows.
template <int32_t bits, bool two_row_tiles>
static void SumTiles(const Activations& rows, const uint8_t* groups, int32_t group_count, const __m512i (*start)[2],
                     __m512i (*sums)[2]) {
  constexpr ptrdiff_t kSumStride = sizeof(*sums);
  StepBuffer buffers[2];  // by turns: the tiles may not have read the one before
  _tile_loadd(TFQ_SUM_0_LOW, &start[0][0], kSumStride);
  _tile_loadd(TFQ_SUM_0_HIGH, &start[0][1], kSumStride);
  if (two_row_tiles) {
    _tile_loadd(TFQ_SUM_1_LOW, &start[kTileRows][0], kSumStride);
    _tile_loadd(TFQ_SUM_1_HIGH, &start[kTileRows][1], kSumStride);
  }
  const uint8_t* row = rows.data;
  for (int32_t group = 0; group < group_count; group += kStepGroups, row += kStepBytes) {
    const StepWeights weights =
        WeightsOf<bits>(groups + group * GroupBytes(bits), std::min(kStepGroups, group_count - group),
                        &buffers[group / kStepGroups % 2]);
    _tile_loadd(TFQ_WEIGHTS_LOW, weights.low, weights.stride);
    _tile_loadd(TFQ_ROWS_0, row, rows.stride);
    _tile_dpbsud(TFQ_SUM_0_LOW, TFQ_ROWS_0, TFQ_WEIGHTS_LOW);
    _tile_loadd(TFQ_WEIGHTS_HIGH, weights.high, weights.stride);
    _tile_dpbsud(TFQ_SUM_0_HIGH, TFQ_ROWS_0, TFQ_WEIGHTS_HIGH);
    if (two_row_tiles) {
      _tile_loadd(TFQ_ROWS_1, row + kTileRows * rows.stride, rows.stride);
      _tile_dpbsud(TFQ_SUM_1_LOW, TFQ_ROWS_1, TFQ_WEIGHTS_LOW);
      _tile_dpbsud(TFQ_SUM_1_HIGH, TFQ_ROWS_1, TFQ_WEIGHTS_HIGH);
    }
  }
  _tile_stored(TFQ_SUM_0_LOW, &sums[0][0], kSumStride);
  _tile_stored(TFQ_SUM_0_HIGH, &sums[0][1], kSumStride);
  if (two_row_tiles) {
    _tile_stored(TFQ_SUM_1_LOW, &sums[kTileRows][0], kSumStride);
    _tile_stored(TFQ_SUM_1_HIGH, &sums[kTileRows][1], kSumStride);
  }
}

// Not for sums deeper than whole bytes allow; nor for short sums of few columns, of which a step would be mostly
// padding.
template <int32_t bits>
static bool TilesServe(const GemmShape& shape) {
  const int64_t depth = int64_t{shape.taps} * shape.channels;
  return depth <= kMaxDepth32c4<bits> && (depth > kStepBytes / 2 || shape.n > 3 * kNr32);
}

// Where in a tile's memory the blocks of output channels lie, and in each its weights.
struct BlockLayout {
  size_t block_bytes;
  size_t section_bytes;
};

// Sums up a tile of up to 32 rows, block by block. finish(block, n, columns, sums) takes the sums of `columns` columns
// from n on; those of 4-bit weights are yet to be split. What AMX does not serve goes to run_rows(m_begin, rows), up to
// kMaxRows at once.
template <int32_t bits, typename Tile, typename RunRows, typename Finish>
static void RunTiles(const GemmShape& shape, const Tile& tile, const BlockLayout& layout, const RunRows& run_rows,
                     const Finish& finish) {
  if (!TilesServe<bits>(shape)) {
    for (int32_t m = 0; m < tile.m; m += kMaxRows) run_rows(m, std::min(kMaxRows, tile.m - m));
    return;
  }
  const Activations rows = AreEvenlySpaced(shape, tile.rows, tile.m)
                               ? Activations{reinterpret_cast<const uint8_t*>(tile.rows[0]),
                                             tile.m > 1 ? tile.rows[1] - tile.rows[0] : kStepBytes}
                               : CopyRows(shape, tile.rows, tile.m, tile.scratch);
  __m512i start[kMr][2];
  StartSums<bits>(rows, tile.m, Steps(shape), start);
  StoreForTiles(start);

  const TileConfig config = ConfigFor(tile.m);
  StoreForTiles(&config);
  _tile_loadconfig(&config);
  const auto sum = tile.m > kTileRows ? SumTiles<bits, true> : SumTiles<bits, false>;
  const int32_t group_count = static_cast<int32_t>(shape.taps * GroupsOfTap(shape));
  const uint8_t* first = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr32 * layout.block_bytes;
  const int32_t blocks = (tile.n_end - tile.n_begin + kNr32 - 1) / kNr32;
  // The tiles are at work on a block while the vectors finish the one before.
  __m512i sums[2][kMr][2];
  for (int32_t block = 0; block <= blocks; ++block) {
    if (block < blocks) {
      sum(rows, first + block * layout.block_bytes + layout.section_bytes, group_count, start, sums[block % 2]);
    }
    if (block == 0) continue;
    const int32_t n = tile.n_begin + (block - 1) * kNr32;
    finish(first + (block - 1) * layout.block_bytes, n, std::min(kNr32, tile.n_end - n), sums[(block - 1) % 2]);
  }
  _tile_release();
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX512_AMX_TILES_32X32C4_AVX512_AMX_H_
