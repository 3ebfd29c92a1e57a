// Packed weights of a matrix product: a row of blocks of output channels, each a section of parameters, then weights in
// groups of a few input channels. Every tap starts a new group.
//
// Small functions are static, because kernels include them into files compiled for one instruction set alone.
#ifndef TFQ_DELEGATES_INT4_PACKING_GEMM_BLOCKS_H_
#define TFQ_DELEGATES_INT4_PACKING_GEMM_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

constexpr int32_t kMostChannels = 32;

struct BlockLayout {
  int32_t nr;                           // output channels of a block, at most kMostChannels
  int32_t kr;                           // input channels of a group
  int32_t bits;                         // of a weight
  size_t alignment = alignof(int32_t);  // of a block, whose section is of int32
  size_t extra = 0;                     // bytes between the section and the groups
};

static constexpr size_t GroupBytes(const BlockLayout& layout) {
  return static_cast<size_t>(layout.nr) * static_cast<size_t>(layout.kr * layout.bits) / 8;
}

static constexpr size_t GroupsOfTap(const BlockLayout& layout, const GemmShape& shape) {
  return static_cast<size_t>((shape.channels + layout.kr - 1) / layout.kr);
}

static constexpr size_t GroupsOf(const BlockLayout& layout, const GemmShape& shape) {
  return static_cast<size_t>(shape.taps) * GroupsOfTap(layout, shape);
}

// Where the groups of a block begin.
static constexpr size_t GroupsOffset(const BlockLayout& layout) {
  return ChannelSectionBytes(layout.nr) + layout.extra;
}

static constexpr size_t BlockBytes(const BlockLayout& layout, const GemmShape& shape) {
  return RoundUp(GroupsOffset(layout) + GroupsOf(layout, shape) * GroupBytes(layout), layout.alignment);
}

static constexpr size_t PackedBytesOf(const BlockLayout& layout, const GemmShape& shape) {
  const size_t blocks = static_cast<size_t>((shape.n + layout.nr - 1) / layout.nr);
  return RoundUp(blocks * BlockBytes(layout, shape), kPackedAlignment);
}

// Packs in two's complement. A group has kr bytes for each of the nr output channels or, of 4-bit weights, for each of
// the first half of them, which are in the low nibbles; the other half is in the high ones. Padding is 0.
void PackBlocks(const BlockLayout& layout, const GemmShape& shape, const WeightSource& source, void* packed);

// The same behind the section of weights with floating-point scales.
void PackBlocks(const BlockLayout& layout, const GemmShape& shape, const ScaledWeights& source, void* packed);

// Goes over the blocks of a tile: `for (auto at = BlocksOf(layout, shape, tile); at.n < tile.n_end; at.Next())`.
template <typename Out>
struct BlockCursor {
  const uint8_t* packed;
  int32_t n;  // first output channel
  Out* out;
  int32_t nr;
  size_t bytes;

  void Next() {
    packed += bytes;
    n += nr;
    out += nr;
  }
};

template <typename Tile>
static inline auto BlocksOf(const BlockLayout& layout, const GemmShape& shape, const Tile& tile) {
  const size_t bytes = BlockBytes(layout, shape);
  const size_t first = static_cast<size_t>(tile.n_begin / layout.nr);
  using Out = std::remove_pointer_t<decltype(tile.out)>;
  return BlockCursor<Out>{static_cast<const uint8_t*>(tile.packed) + first * bytes, tile.n_begin, tile.out, layout.nr,
                          bytes};
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PACKING_GEMM_BLOCKS_H_
