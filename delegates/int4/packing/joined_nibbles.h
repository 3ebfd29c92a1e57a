// Two 4-bit weights as one number, for kernels that multiply whole bytes.
//
// As packed, low and high nibbles are two numbers in two's complement. Joined, a byte is 16 * high + low. Sums of
// products of whole bytes are then 16 * H + L, where H and L are those of the high and the low weights, and L is what
// is left when 16 * H is taken off, exactly in wrapping integers. A rounding shift by 4 gives the high weight. A pair
// of -8 and a negative low one does not fit; files that keep to the symmetric range of -7..7 have none.
#ifndef TFQ_DELEGATES_INT4_PACKING_JOINED_NIBBLES_H_
#define TFQ_DELEGATES_INT4_PACKING_JOINED_NIBBLES_H_

#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/packing/gemm_blocks.h"

namespace tfq::int4 {

// What stands behind the section of a block: 1 where its bytes are joined, 0 where they are not.
constexpr size_t kJoinedFlagBytes = sizeof(int32_t);

// 4-bit weights in blocks of inputs have their scales, float32 [blocks of inputs][nr], between the flag and the groups.
static constexpr BlockLayout ScaledLayout(const BlockLayout& joined, const GemmShape& shape) {
  BlockLayout layout = joined;
  if (shape.block != 0) {
    layout.extra += sizeof(float) * static_cast<size_t>(layout.nr) * static_cast<size_t>(shape.channels / shape.block);
  }
  return layout;
}

static inline const float* ScalesOf(const BlockLayout& layout, const uint8_t* block) {
  return reinterpret_cast<const float*>(block + ChannelSectionBytes(layout.nr) + kJoinedFlagBytes);
}

static inline bool IsJoined(const BlockLayout& layout, const uint8_t* block) {
  return block[ChannelSectionBytes(layout.nr)] != 0;
}

// Joins `count` bytes where all fit, and returns whether they do.
bool JoinNibbles(uint8_t* bytes, size_t count);

// Packs as PackBlocks() does, and joins the bytes of each block that allows it. There, the biases of the channels in
// low nibbles have 16 times those of their partners in high ones added.
void PackJoinedBlocks(const BlockLayout& layout, const GemmShape& shape, const WeightSource& source, void* packed);

// The same behind the section of weights with floating-point scales, in ScaledLayout(layout, shape). Sums begin with 0.
void PackJoinedBlocks(const BlockLayout& layout, const GemmShape& shape, const ScaledWeights& source, void* packed);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PACKING_JOINED_NIBBLES_H_
