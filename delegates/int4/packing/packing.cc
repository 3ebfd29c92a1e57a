#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

int32_t SumOfWeights(const WeightValues& values, size_t begin, size_t count, size_t stride) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += ValueAt(values, begin + i * stride);
  return sum;
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
