// What the reference kernels of weights with floating-point scales share: float bias[n], float scale[n][blocks], then
// the values as they lie in the file.
#ifndef TFQ_DELEGATES_INT4_KERNELS_REFERENCE_SCALED_WEIGHTS_REFERENCE_H_
#define TFQ_DELEGATES_INT4_KERNELS_REFERENCE_SCALED_WEIGHTS_REFERENCE_H_

#include <cstring>

#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

static inline size_t ParameterBytes(const GemmShape& shape) { return sizeof(float) * shape.n * (1 + BlocksOf(shape)); }

template <int32_t bits>
static size_t PackedScaledBytes(const GemmShape& shape) {
  return RoundUp(ParameterBytes(shape) + ValueBytes(size_t(shape.n) * shape.taps * shape.channels, bits),
                 kPackedAlignment);
}

template <int32_t bits>
static void PackScaled(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, PackedScaledBytes<bits>(shape));
  float* bias = static_cast<float*>(packed);
  float* scale = bias + shape.n;
  for (int32_t n = 0; n < shape.n; ++n) {
    bias[n] = source.bias == nullptr ? 0.0f : source.bias[n];
    for (size_t b = 0; b < BlocksOf(shape); ++b) *scale++ = ScaleAt(source, shape, n, b);
  }
  std::memcpy(scale, source.values.bytes, ValueBytes(size_t(shape.n) * shape.taps * shape.channels, bits));
}

// Reads what PackScaled() wrote.
template <int32_t bits>
struct ScaledReader {
  ScaledReader(const GemmShape& shape, const void* packed)
      : bias(static_cast<const float*>(packed)),
        scale(bias + shape.n),
        blocks(BlocksOf(shape)),
        block(shape.block == 0 ? shape.channels : shape.block),
        values{static_cast<const uint8_t*>(packed) + ParameterBytes(shape), bits} {}

  double ScaleOf(size_t n, int32_t channel) const { return static_cast<double>(scale[n * blocks + channel / block]); }

  const float* bias;
  const float* scale;
  size_t blocks;
  int32_t block;
  WeightValues values;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_REFERENCE_SCALED_WEIGHTS_REFERENCE_H_
