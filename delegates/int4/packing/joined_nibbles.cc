#include "delegates/int4/packing/joined_nibbles.h"

#include <algorithm>

namespace tfq::int4 {

bool JoinNibbles(uint8_t* bytes, size_t count) {
  const auto fits = [](uint8_t byte) { return byte < 0x88 || byte > 0x8f; };
  if (!std::all_of(bytes, bytes + count, fits)) return false;
  std::transform(bytes, bytes + count, bytes,
                 [](uint8_t byte) { return static_cast<uint8_t>((byte & 8) != 0 ? byte - 16 : byte); });
  return true;
}

void PackJoinedBlocks(const BlockLayout& layout, const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(layout, shape, source, packed);
  const size_t bytes = GroupsOf(layout, shape) * GroupBytes(layout);
  const int32_t half = layout.nr / 2;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n = 0; n < shape.n; n += layout.nr, block += BlockBytes(layout, shape)) {
    if (!JoinNibbles(block + GroupsOffset(layout), bytes)) continue;
    block[ChannelSectionBytes(layout.nr)] = 1;
    uint32_t* bias = reinterpret_cast<uint32_t*>(block);
    for (int32_t i = 0; i < half; ++i) bias[i] += bias[half + i] << 4;
  }
}

}  // namespace tfq::int4
