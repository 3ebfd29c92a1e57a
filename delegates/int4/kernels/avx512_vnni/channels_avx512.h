// What a block's channels need behind their sums, in front of its weights: int32 bias[count], int32 multiplier[count],
// int8 shift[count].
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_CHANNELS_AVX512_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_CHANNELS_AVX512_H_

#include <cstdint>
#include <cstring>

#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

struct ChannelsAvx512 {
  const int32_t* bias;
  const int32_t* multiplier;
  const int8_t* shift;

  ChannelsAvx512 From(int32_t first) const { return {bias + first, multiplier + first, shift + first}; }
};

// Of `count` channels, a multiple of 16; what follows is aligned as the block is.
static constexpr size_t ChannelsBytesAvx512(int32_t count) {
  return RoundUp((2 * sizeof(int32_t) + 1) * static_cast<size_t>(count), kPackedAlignment);
}

template <int32_t count>
static inline ChannelsAvx512 ChannelsOf(const void* block) {
  const int32_t* bias = static_cast<const int32_t*>(block);
  return {bias, bias + count, reinterpret_cast<const int8_t*>(bias + 2 * count)};
}

// From a section of int32 (WriteChannelSection()); channel i comes from place_of(i).
template <int32_t count, typename PlaceOf>
static inline void WriteChannelsAvx512(const int32_t (&section)[3 * count], const PlaceOf& place_of, void* block) {
  int32_t words[2][count];
  int8_t shifts[count];
  for (int32_t i = 0; i < count; ++i) {
    const int32_t place = place_of(i);
    words[0][i] = section[place];
    words[1][i] = section[count + place];
    shifts[i] = static_cast<int8_t>(section[2 * count + place]);
  }
  std::memcpy(block, words, sizeof(words));
  std::memcpy(static_cast<uint8_t*>(block) + sizeof(words), shifts, sizeof(shifts));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_CHANNELS_AVX512_H_
