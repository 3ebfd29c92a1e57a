// What the packers share: reading weights as they lie in the file, and the section of per-channel parameters that
// stands in front of the weights of each block of channels.
//
// Small functions are static, because kernels include them into files compiled for one instruction set alone.
#ifndef TFQ_DELEGATES_INT4_PACKING_PACKING_H_
#define TFQ_DELEGATES_INT4_PACKING_PACKING_H_

#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

// Value `index`, two's complement; of int4 the even index is in the low nibble.
static inline int32_t ValueAt(const WeightValues& values, size_t index) {
  if (values.bits == 8) return static_cast<int8_t>(values.bytes[index]);
  const int32_t nibble = (values.bytes[index / 2] >> (index % 2 * 4)) & 15;
  return nibble < 8 ? nibble : nibble - 16;
}

// Writes values begin .. begin + count, moved to unsigned by half their range (w + 8 or w + 128), a byte each. Returns
// the sum of the values as they were.
int32_t UnpackUnsigned(const WeightValues& values, size_t begin, int32_t count, uint8_t* to);

// Bytes that `count` values take.
static constexpr size_t ValueBytes(size_t count, int32_t bits) { return bits == 8 ? count : (count + 1) / 2; }

static constexpr size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A number of IEEE half precision.
float HalfToFloat(uint16_t half);

// Blocks of a row: 1 where a scale serves a whole output channel.
static inline size_t BlocksOf(const GemmShape& shape) { return shape.block == 0 ? 1 : shape.channels / shape.block; }

// Scale of output channel `n` in block `block` of its inputs.
static inline float ScaleAt(const ScaledWeights& source, const GemmShape& shape, size_t n, size_t block) {
  return shape.block == 0 ? source.scale[n] : HalfToFloat(source.block_scale[n * BlocksOf(shape) + block]);
}

// Sum of `count` weights that start at `begin` and stand `stride` apart.
int32_t SumOfWeights(const WeightValues& values, size_t begin, size_t count, size_t stride);

// Writes int32 bias[block], multiplier[block], shift[block]: what the output stage needs of channels n_begin .. n_begin
// + block. The bias takes in the part of the sum that does not depend on the data: bias[n] - offset * weight_sum[n].
// Channels at or past n_end get zeros; weight_sum has one entry for each channel of the block.
void WriteChannelSection(const WeightSource& source, int32_t n_begin, int32_t n_end, int32_t block, int32_t offset,
                         const int32_t* weight_sum, int32_t* section);

// Bytes of one block's channel section.
static constexpr size_t ChannelSectionBytes(int32_t block) { return 3 * sizeof(int32_t) * static_cast<size_t>(block); }

// The section of weights with floating-point scales: what the end of a sum needs of each channel of a block of them.
struct ScaledSection {
  const float* bias;
  const int32_t* weight_sum;       // sum of the channel's weights; one scale for each channel
  const float* scaled_weight_sum;  // in the same place: sum of the channel's dequantized weights; formats with blocks
  const float* scale;              // 0 in formats with blocks
};

static constexpr size_t ScaledSectionBytes(int32_t block) { return 3 * sizeof(float) * static_cast<size_t>(block); }

static inline ScaledSection ReadScaledSection(const void* section, int32_t block) {
  const float* floats = static_cast<const float*>(section);
  return {floats, static_cast<const int32_t*>(section) + block, floats + block, floats + 2 * block};
}

// Writes the section of channels n_begin .. n_begin + block; those past the last get zeros.
void WriteScaledSection(const ScaledWeights& source, const GemmShape& shape, int32_t n_begin, int32_t block,
                        void* section);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PACKING_PACKING_H_
