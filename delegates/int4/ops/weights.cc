#include "delegates/int4/ops/weights.h"

namespace tfq::int4 {

std::vector<uint8_t> SliceNibbles(const uint8_t* nibbles, size_t begin, size_t count) {
  std::vector<uint8_t> slice((count + 1) / 2, 0);
  for (size_t to = 0; to < count; ++to) {
    const size_t from = begin + to;
    const uint32_t nibble = (nibbles[from / 2] >> (from % 2 * 4)) & 0xFu;
    slice[to / 2] = static_cast<uint8_t>(slice[to / 2] | nibble << (to % 2 * 4));
  }
  return slice;
}

}  // namespace tfq::int4
