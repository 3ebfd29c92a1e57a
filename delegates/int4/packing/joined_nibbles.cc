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

namespace {

// Joins the bytes of each packed block that allows it, and calls then(block).
template <typename Then>
void JoinBlocks(const BlockLayout& layout, const GemmShape& shape, void* packed, const Then& then) {
  const size_t bytes = GroupsOf(layout, shape) * GroupBytes(layout);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n = 0; n < shape.n; n += layout.nr, block += BlockBytes(layout, shape)) {
    if (!JoinNibbles(block + GroupsOffset(layout), bytes)) continue;
    block[ChannelSectionBytes(layout.nr)] = 1;
    then(block);
  }
}

}  // namespace

void PackJoinedBlocks(const BlockLayout& layout, const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(layout, shape, source, packed);
  const int32_t half = layout.nr / 2;
  JoinBlocks(layout, shape, packed, [&](uint8_t* block) {
    uint32_t* bias = reinterpret_cast<uint32_t*>(block);
    for (int32_t i = 0; i < half; ++i) bias[i] += bias[half + i] << 4;
  });
}

void PackJoinedBlocks(const BlockLayout& joined, const GemmShape& shape, const ScaledWeights& source, void* packed) {
  const BlockLayout layout = ScaledLayout(joined, shape);
  PackBlocks(layout, shape, source, packed);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n = 0; shape.block != 0 && n < shape.n; n += layout.nr, block += BlockBytes(layout, shape)) {
    float* scales = reinterpret_cast<float*>(block + ChannelSectionBytes(layout.nr) + kJoinedFlagBytes);
    for (size_t b = 0; b < BlocksOf(shape); ++b, scales += layout.nr) {
      for (int32_t i = 0; i < layout.nr && n + i < shape.n; ++i) {
        scales[i] = ScaleAt(source, shape, static_cast<size_t>(n + i), b);
      }
    }
  }
  JoinBlocks(layout, shape, packed, [](uint8_t*) {});
}

}  // namespace tfq::int4
