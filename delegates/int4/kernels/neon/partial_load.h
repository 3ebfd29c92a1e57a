// Reading the ragged end of a row without touching what lies behind it.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_PARTIAL_LOAD_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_PARTIAL_LOAD_H_

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace tfq::int4 {

// The first `count` (0..8) bytes, then zeros.
static inline uint64_t LoadPart(const int8_t* from, int32_t count) {
  if (count >= 8) {
    uint64_t all;
    std::memcpy(&all, from, 8);
    return all;
  }
  uint64_t part = 0;
  int32_t bits = 0;
  if (count & 4) {
    uint32_t four;
    std::memcpy(&four, from, 4);
    part = four;
    from += 4;
    bits = 32;
  }
  if (count & 2) {
    uint16_t two;
    std::memcpy(&two, from, 2);
    part |= static_cast<uint64_t>(two) << bits;
    from += 2;
    bits += 16;
  }
  if (count & 1) part |= static_cast<uint64_t>(static_cast<uint8_t>(*from)) << bits;
  return part;
}

static inline int8x8_t LoadPartNeon(const int8_t* from, int32_t count) {
  return vreinterpret_s8_u64(vdup_n_u64(LoadPart(from, count)));
}

// The first `count` (1..8) values, then zeros.
static inline int16x8_t LoadWidePartNeon(const int16_t* from, int32_t count) {
  const int8_t* bytes = reinterpret_cast<const int8_t*>(from);
  const int8x8_t upper = count > 4 ? LoadPartNeon(bytes + 8, 2 * count - 8) : vdup_n_s8(0);
  return vreinterpretq_s16_s8(vcombine_s8(LoadPartNeon(bytes, 2 * count), upper));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_PARTIAL_LOAD_H_
