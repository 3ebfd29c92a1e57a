#include "delegates/int4/packing/gemm_blocks.h"

#include <cstring>

namespace tfq::int4 {
namespace {

// Packs `channels` weights from number `begin` on into the groups of one tap: those of output channel i of the block.
// Returns their sum.
int32_t PackTap(const BlockLayout& layout, const WeightValues& values, size_t begin, int32_t channels, int32_t i,
                uint8_t* groups) {
  const int32_t half = layout.nr * layout.bits / 8;
  const int32_t bit = i / half * 4;
  const int32_t mask = (1 << layout.bits) - 1;
  uint8_t* group = groups + i % half * layout.kr;
  int32_t sum = 0;
  for (int32_t c = 0; c < channels; c += layout.kr, group += GroupBytes(layout)) {
    for (int32_t k = 0; k < layout.kr && c + k < channels; ++k) {
      const int32_t value = ValueAt(values, begin + static_cast<size_t>(c + k));
      group[k] |= static_cast<uint8_t>((value & mask) << bit);
      sum += value;
    }
  }
  return sum;
}

// Calls write_section(n, sums, block) for the section of each block, with the sums of its channels' weights.
template <typename WriteSection>
void PackGroups(const BlockLayout& layout, const GemmShape& shape, const WeightValues& values, void* packed,
                const WriteSection& write_section) {
  std::memset(packed, 0, PackedBytesOf(layout, shape));
  const size_t tap_bytes = GroupsOfTap(layout, shape) * GroupBytes(layout);
  const size_t depth = static_cast<size_t>(shape.taps) * static_cast<size_t>(shape.channels);
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n = 0; n < shape.n; n += layout.nr, block += BlockBytes(layout, shape)) {
    int32_t sums[kMostChannels] = {};
    for (int32_t i = 0; i < layout.nr && n + i < shape.n; ++i) {
      size_t begin = static_cast<size_t>(n + i) * depth;
      uint8_t* groups = block + GroupsOffset(layout);
      for (int32_t tap = 0; tap < shape.taps; ++tap, groups += tap_bytes) {
        sums[i] += PackTap(layout, values, begin, shape.channels, i, groups);
        begin += static_cast<size_t>(shape.channels);
      }
    }
    write_section(n, sums, block);
  }
}

}  // namespace

void PackBlocks(const BlockLayout& layout, const GemmShape& shape, const WeightSource& source, void* packed) {
  PackGroups(layout, shape, source.values, packed, [&](int32_t n, const int32_t* sums, uint8_t* block) {
    WriteChannelSection(source, n, shape.n, layout.nr, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  });
}

void PackBlocks(const BlockLayout& layout, const GemmShape& shape, const ScaledWeights& source, void* packed) {
  PackGroups(layout, shape, source.values, packed, [&](int32_t n, const int32_t*, uint8_t* block) {
    WriteScaledSection(source, shape, n, layout.nr, block);
  });
}

}  // namespace tfq::int4
