// Sums of two products of int8 fit 16 bits, but for (-128 * -128) twice. Files that keep to the specification have no
// weight of -128. Packed 8-bit weights say in front whether there is one, for kernels to sum up one product at a time.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_LOWEST_WEIGHT_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_LOWEST_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

constexpr size_t kLowestWeightBytes = 16;

// Writes whether any of `count` 8-bit weights is -128 to the front of the packed ones.
static inline void WriteLowestWeight(const WeightValues& values, size_t count, void* packed) {
  const uint32_t found = std::memchr(values.bytes, 0x80, count) != nullptr;
  std::memset(packed, 0, kLowestWeightBytes);
  std::memcpy(packed, &found, sizeof(found));
}

static inline bool HasLowestWeight(const void* packed) {
  uint32_t found;
  std::memcpy(&found, packed, sizeof(found));
  return found != 0;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_LOWEST_WEIGHT_H_
