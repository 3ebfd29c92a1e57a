#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

int32_t SumOfWeights(const WeightValues& values, size_t begin, size_t count, size_t stride) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += ValueAt(values, begin + i * stride);
  return sum;
}

int32_t UnpackUnsigned(const WeightValues& values, size_t begin, int32_t count, uint8_t* to) {
  int32_t sum = 0;
  if (values.bits == 8) {
    for (int32_t i = 0; i < count; ++i) to[i] = static_cast<uint8_t>(values.bytes[begin + i] ^ 0x80);
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

}  // namespace tfq::int4
