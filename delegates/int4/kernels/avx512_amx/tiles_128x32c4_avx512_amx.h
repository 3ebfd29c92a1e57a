// Matrix products on AMX, of 4- and 8-bit weights: signed bytes on both sides, so that sums need no correction. Weights
// of 8 bits go to the tiles as they lie in memory; of 4 bits, a step's are made bytes just ahead of the tiles.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX512_AMX_TILES_32X32C4_AVX512_AMX_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX512_AMX_TILES_32X32C4_AVX512_AMX_H_

#include <algorithm>

#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"

namespace tfq::int4 {

constexpr int32_t kMr = 128;  // setting up the tiles takes as long as eight rows of sums
constexpr int32_t kTileRows = 16;
constexpr int32_t kPartRows = 2 * kTileRows;  // whose sums the tiles hold
constexpr int32_t kTileBytes = 64;            // of a row
constexpr int32_t kTileGroups = kTileBytes / kKr4;

// Fewer rows or shorter sums do not pay for setting up the tiles.
constexpr int32_t kLeastRows = kTileRows;
constexpr int32_t kLeastDepth = 16;

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

// A row is consumed in `count` steps of `groups` groups of channels; the last step may have fewer.
struct Steps {
  int32_t count;
  int32_t groups;
  int32_t all_groups;

  bool are_equal() const { return count * groups == all_groups; }
  ptrdiff_t bytes() const { return ptrdiff_t{count} * groups * kKr4; }
};

// Equal steps, if that makes few more of them: rows can then be read where they are.
static Steps StepsOf(const GemmShape& shape) {
  const int32_t groups = static_cast<int32_t>(shape.taps * GroupsOfTap(shape));
  const int32_t least = (groups + kTileGroups - 1) / kTileGroups;
  for (int32_t count = least; count <= least + least / 4; ++count) {
    if (groups % count == 0) return {count, groups / count, groups};
  }
  return {least, (groups + least - 1) / least, groups};
}

static TileConfig ConfigFor(int32_t m, const Steps& steps) {
  const int32_t first = std::min(m, kTileRows), second = m - first;
  const int32_t rows[8] = {first, first, second, second, first, second, steps.groups, steps.groups};
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    const bool activations = i == TFQ_ROWS_0 || i == TFQ_ROWS_1;
    config.rows[i] = static_cast<uint8_t>(rows[i]);
    config.row_bytes[i] = static_cast<uint16_t>(rows[i] == 0 ? 0 : activations ? kKr4 * steps.groups : kTileBytes);
  }
  return config;
}

// The tile instructions read memory behind the compiler's back: what they will read must have been stored.
static inline void StoreForTiles(const void* from) { __asm__ volatile("" : : "r"(from) : "memory"); }

// An odd number of cache lines, so that rows do not contend for the same places of the cache.
static size_t CopiedRowBytes(const Steps& steps) {
  return (RoundUp(steps.bytes(), kTileBytes) / kTileBytes | 1) * kTileBytes;
}

static size_t ScratchBytes(const GemmShape& shape) { return kPartRows * CopiedRowBytes(StepsOf(shape)) + kTileBytes; }

// Rows of activations, `stride` bytes apart, whole steps long.
struct Activations {
  const int8_t* data;
  ptrdiff_t stride;
};

// Rows that tiles can read where they are.
static bool AreEvenlySpaced(const GemmShape& shape, const Steps& steps, const int8_t* const* rows, int32_t count) {
  if (shape.taps != 1 || shape.channels % kKr4 != 0 || !steps.are_equal()) return false;
  const ptrdiff_t stride = count > 1 ? rows[1] - rows[0] : 0;
  return rows[count - 1] - rows[0] == (count - 1) * stride &&
         std::adjacent_find(rows, rows + count, [=](const int8_t* a, const int8_t* b) { return b - a != stride; }) ==
             rows + count;
}

// Each tap is padded with zeros to whole groups, each row to whole steps. Whole lines are written: what lies past the
// end of a tap or a row is zero until the next one is written over it.
static Activations CopyRows(const GemmShape& shape, const Steps& steps, const int8_t* const* rows, int32_t count,
                            void* scratch) {
  const size_t row_bytes = CopiedRowBytes(steps);
  const size_t tap_bytes = GroupsOfTap(shape) * kKr4;
  const int32_t whole = shape.channels / kTileBytes * kTileBytes;
  const __mmask64 rest = (uint64_t{1} << (shape.channels - whole)) - 1;
  int8_t* row = static_cast<int8_t*>(scratch);
  for (int32_t m = 0; m < count; ++m, row += row_bytes) {
    int8_t* to = row;
    for (int32_t tap = 0; tap < shape.taps; ++tap, to += tap_bytes) {
      const int8_t* from = rows[tap * kMr + m];
      for (int32_t c = 0; c < whole; c += kTileBytes) _mm512_storeu_si512(to + c, _mm512_loadu_si512(from + c));
      _mm512_storeu_si512(to + whole, _mm512_maskz_loadu_epi8(rest, from + whole));
    }
    for (; to < row + steps.bytes(); to += kTileBytes) _mm512_storeu_si512(to, _mm512_setzero_si512());
  }
  StoreForTiles(scratch);
  return {static_cast<const int8_t*>(scratch), static_cast<ptrdiff_t>(row_bytes)};
}

static Activations RowsFrom(const GemmShape& shape, const Steps& steps, const int8_t* const* rows, int32_t count,
                            void* scratch) {
  if (!AreEvenlySpaced(shape, steps, rows, count)) return CopyRows(shape, steps, rows, count, scratch);
  return {rows[0], count > 1 ? rows[1] - rows[0] : kTileBytes};
}

// The weights of a step as tiles read them: where the low and the high columns begin, rows `stride` bytes apart.
struct StepWeights {
  const uint8_t* low;
  const uint8_t* high;
  ptrdiff_t stride;
};

// Room for a step that is changed before tiles read it. Groups that the last step lacks may be anything: they meet
// activations of zero.
struct alignas(64) StepBuffer {
  uint8_t low[kTileGroups * kTileBytes];
  uint8_t high[kTileGroups * kTileBytes];
};

// Of each byte the low or the high nibble: three of its bits, and its sign in all the others.
static inline __m512i LowNibbles(__m512i bytes) {
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(0x0102040808080808), 0);
}
static inline __m512i HighNibbles(__m512i bytes) {
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(0x1020408080808080), 0);
}

template <int32_t bits>
static inline StepWeights WeightsOf(const uint8_t* groups, int32_t count, const Steps& steps, StepBuffer* buffer) {
  if (bits == 8 && count == steps.groups) return {groups, groups + kTileBytes, static_cast<ptrdiff_t>(GroupBytes(8))};
  for (int32_t i = 0; i < count; ++i, groups += GroupBytes(bits)) {
    const __m512i bytes = _mm512_load_si512(groups);
    _mm512_store_si512(buffer->low + kTileBytes * i, bits == 8 ? bytes : LowNibbles(bytes));
    _mm512_store_si512(buffer->high + kTileBytes * i,
                       bits == 8 ? _mm512_load_si512(groups + kTileBytes) : HighNibbles(bytes));
  }
  StoreForTiles(buffer);
  return {buffer->low, buffer->high, kTileBytes};
}

// The steps of all blocks one after the other, made ready for the tiles.
template <int32_t bits>
class StepReader {
 public:
  // Blocks stand `block_bytes` apart; `groups` are the weights of the first.
  StepReader(const uint8_t* groups, size_t block_bytes, int32_t blocks, const Steps& steps)
      : block_(groups), block_bytes_(block_bytes), left_(blocks * steps.count), steps_(steps) {
    Prepare();
  }

  // The next step; the one behind it is made ready while the tiles are at work on this one.
  StepWeights Next() {
    const StepWeights next = ready_;
    if (left_ > 0) Prepare();
    return next;
  }

 private:
  void Prepare() {
    const int32_t begin = step_ * steps_.groups;
    ready_ = WeightsOf<bits>(block_ + begin * GroupBytes(bits), std::min(steps_.groups, steps_.all_groups - begin),
                             steps_, &buffers_[turn_]);
    turn_ = (turn_ + 1) % kBuffers;
    --left_;
    if (++step_ < steps_.count) return;
    step_ = 0;
    block_ += block_bytes_;
  }

  // The tiles may not have read the step before the one that they are given.
  static constexpr int32_t kBuffers = 3;

  const uint8_t* block_;
  size_t block_bytes_;
  int32_t left_;
  Steps steps_;
  int32_t step_ = 0;
  int32_t turn_ = 0;
  StepWeights ready_ = {};
  StepBuffer buffers_[kBuffers];
};

// Sums up one block for up to 32 rows, in the tiles; `start` has what those of its 32 columns start from.
template <int32_t bits, bool two_row_tiles>
static inline void SumTiles(const Activations& rows, const Steps& steps, const int32_t* start,
                            StepReader<bits>* reader) {
  _tile_loadd(TFQ_SUM_0_LOW, start, 0);
  _tile_loadd(TFQ_SUM_0_HIGH, start + 16, 0);
  if (two_row_tiles) {
    _tile_loadd(TFQ_SUM_1_LOW, start, 0);
    _tile_loadd(TFQ_SUM_1_HIGH, start + 16, 0);
  }
  const int8_t* row = rows.data;
  for (int32_t step = 0; step < steps.count; ++step, row += steps.groups * kKr4) {
    const StepWeights weights = reader->Next();
    _tile_loadd(TFQ_WEIGHTS_LOW, weights.low, weights.stride);
    _tile_loadd(TFQ_ROWS_0, row, rows.stride);
    _tile_dpbssd(TFQ_SUM_0_LOW, TFQ_ROWS_0, TFQ_WEIGHTS_LOW);
    _tile_loadd(TFQ_WEIGHTS_HIGH, weights.high, weights.stride);
    _tile_dpbssd(TFQ_SUM_0_HIGH, TFQ_ROWS_0, TFQ_WEIGHTS_HIGH);
    if (two_row_tiles) {
      _tile_loadd(TFQ_ROWS_1, row + kTileRows * rows.stride, rows.stride);
      _tile_dpbssd(TFQ_SUM_1_LOW, TFQ_ROWS_1, TFQ_WEIGHTS_LOW);
      _tile_dpbssd(TFQ_SUM_1_HIGH, TFQ_ROWS_1, TFQ_WEIGHTS_HIGH);
    }
  }
}

template <bool two_row_tiles>
static inline void StoreTiles(__m512i (*sums)[2]) {
  constexpr ptrdiff_t kSumStride = sizeof(*sums);
  _tile_stored(TFQ_SUM_0_LOW, &sums[0][0], kSumStride);
  _tile_stored(TFQ_SUM_0_HIGH, &sums[0][1], kSumStride);
  if (two_row_tiles) {
    _tile_stored(TFQ_SUM_1_LOW, &sums[kTileRows][0], kSumStride);
    _tile_stored(TFQ_SUM_1_HIGH, &sums[kTileRows][1], kSumStride);
  }
}

// Where in a tile's memory the blocks of output channels lie, and in each its weights.
struct BlockLayout {
  size_t block_bytes;
  size_t section_bytes;
};

// What is done with up to 32 rows of a tile: start(block) has what the sums of a block's columns start from;
// finish(block, n, columns, sums) takes those of `columns` columns from n on.
template <int32_t bits, bool two_row_tiles, typename Tile, typename Start, typename Finish>
static void RunPart(const Tile& tile, const Steps& steps, const BlockLayout& layout, const Activations& rows,
                    const Start& start, const Finish& finish) {
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr32 * layout.block_bytes;
  const int32_t blocks = (tile.n_end - tile.n_begin + kNr32 - 1) / kNr32;
  StepReader<bits> reader(block + layout.section_bytes, layout.block_bytes, blocks, steps);
  __m512i sums[kPartRows][2];
  SumTiles<bits, two_row_tiles>(rows, steps, start(block), &reader);
  StoreTiles<two_row_tiles>(sums);
  // The tiles are at work on a block while the vectors finish the one before; its sums are stored when those are read.
  for (int32_t n = tile.n_begin;; n += kNr32) {
    const uint8_t* next = block + layout.block_bytes;
    const bool last = n + kNr32 >= tile.n_end;
    if (!last) SumTiles<bits, two_row_tiles>(rows, steps, start(next), &reader);
    finish(block, n, std::min(kNr32, tile.n_end - n), sums);
    if (last) return;
    StoreTiles<two_row_tiles>(sums);
    block = next;
  }
}

// Sums up a tile in parts of up to 32 rows, block by block. start(block) has what the sums of a block's columns start
// from; finish(m, rows, block, n, columns, sums) takes those of `rows` rows from m on and `columns` columns from n on.
template <int32_t bits, typename Tile, typename Start, typename Finish>
static void RunTiles(const GemmShape& shape, const Tile& tile, const BlockLayout& layout, const Start& start,
                     const Finish& finish) {
  const Steps steps = StepsOf(shape);
  // Parts are equally long, so that the tiles are set up once; the last may repeat rows of the one before.
  const int32_t parts = (tile.m + kPartRows - 1) / kPartRows;
  const int32_t part_rows = (tile.m + parts - 1) / parts;
  const TileConfig config = ConfigFor(part_rows, steps);
  StoreForTiles(&config);
  _tile_loadconfig(&config);
  for (int32_t part = 0; part < parts; ++part) {
    const int32_t m = std::min(part * part_rows, tile.m - part_rows);
    const Activations rows = RowsFrom(shape, steps, tile.rows + m, part_rows, tile.scratch);
    const auto finish_part = [&](const uint8_t* block, int32_t n, int32_t columns, const __m512i(*sums)[2]) {
      finish(m, part_rows, block, n, columns, sums);
    };
    if (part_rows > kTileRows) {
      RunPart<bits, true>(tile, steps, layout, rows, start, finish_part);
    } else {
      RunPart<bits, false>(tile, steps, layout, rows, start, finish_part);
    }
  }
  _tile_release();
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX512_AMX_TILES_32X32C4_AVX512_AMX_H_
