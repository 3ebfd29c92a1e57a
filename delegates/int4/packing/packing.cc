#include "delegates/int4/packing/packing.h"

#include <cmath>
#include <cstring>

namespace tfq::int4 {

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t mantissa = half & 1023u;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign == 0 ? value : -value;
  }
  const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

int32_t SumOfWeights(const WeightValues& values, size_t begin, size_t count, size_t stride) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += ValueAt(values, begin + i * stride);
  return sum;
}

int32_t UnpackUnsigned(const WeightValues& values, size_t begin, int32_t count, uint8_t* to) {
  int32_t sum = 0;
  if (values.bits == 8) {
    const uint8_t* from = values.bytes + begin;  // bytes that `to` cannot reach: the loop becomes vectors
    for (int32_t i = 0; i < count; ++i) to[i] = static_cast<uint8_t>(from[i] ^ 0x80);
  } else {
    int32_t i = 0;
    if (begin % 2 != 0 && count > 0) to[i++] = static_cast<uint8_t>(values.bytes[begin / 2] >> 4 ^ 8);
    const uint8_t* from = values.bytes + (begin + i) / 2;
    for (; i + 1 < count; i += 2, ++from) {
      to[i] = static_cast<uint8_t>((*from & 15) ^ 8);
      to[i + 1] = static_cast<uint8_t>(*from >> 4 ^ 8);
    }
    if (i < count) to[i] = static_cast<uint8_t>((*from & 15) ^ 8);
  }
  for (int32_t i = 0; i < count; ++i) sum += to[i];
  return sum - count * (1 << (values.bits - 1));
}

void WriteChannelSection(const WeightSource& source, int32_t n_begin, int32_t n_end, int32_t block, int32_t offset,
                         const int32_t* weight_sum, int32_t* section) {
  for (int32_t i = 0; i < block; ++i) {
    const int32_t n = n_begin + i;
    const bool used = n < n_end;
    const uint32_t bias = used && source.bias != nullptr ? static_cast<uint32_t>(source.bias[n]) : 0u;
    const uint32_t constant = used ? static_cast<uint32_t>(offset) * static_cast<uint32_t>(weight_sum[i]) : 0u;
    section[i] = static_cast<int32_t>(bias - constant);  // wraps as the 32-bit sum does
    section[block + i] = used ? source.multiplier[n] : 0;
    section[2 * block + i] = used ? source.shift[n] : 0;
  }
}

void WriteScaledSection(const ScaledWeights& source, const GemmShape& shape, int32_t n_begin, int32_t block,
                        void* section) {
  float* floats = static_cast<float*>(section);
  const size_t depth = static_cast<size_t>(shape.taps) * static_cast<size_t>(shape.channels);
  for (int32_t i = 0; i < block; ++i) {
    const int32_t n = n_begin + i;
    const bool used = n < shape.n;
    const size_t first = static_cast<size_t>(used ? n : 0) * depth;
    floats[i] = used && source.bias != nullptr ? source.bias[n] : 0.0f;
    floats[2 * block + i] = used && shape.block == 0 ? source.scale[n] : 0.0f;
    if (shape.block == 0) {
      const int32_t sum = used ? SumOfWeights(source.values, first, depth, 1) : 0;
      std::memcpy(floats + block + i, &sum, sizeof(sum));
      continue;
    }
    double sum = 0;
    for (size_t b = 0; used && b < BlocksOf(shape); ++b) {
      const size_t size = static_cast<size_t>(shape.block);
      sum += static_cast<double>(ScaleAt(source, shape, static_cast<size_t>(n), b)) *
             SumOfWeights(source.values, first + b * size, size, 1);
    }
    floats[block + i] = static_cast<float>(sum);
  }
}

}  // namespace tfq::int4
