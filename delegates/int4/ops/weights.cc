#include "delegates/int4/ops/weights.h"

#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

WeightFormat FormatOf(const NodeView& view) { return {view.weight_bits()}; }

WeightValues ValuesOf(const NodeView& view) {
  return {static_cast<const uint8_t*>(view.weights()->data), view.weight_bits()};
}

std::vector<uint8_t> SliceValues(const WeightValues& values, size_t begin, size_t count) {
  if (values.bits == 8) return {values.bytes + begin, values.bytes + begin + count};
  std::vector<uint8_t> slice(ValueBytes(count, values.bits), 0);
  for (size_t to = 0; to < count; ++to) {
    const uint32_t nibble = static_cast<uint32_t>(ValueAt(values, begin + to)) & 0xFu;
    slice[to / 2] = static_cast<uint8_t>(slice[to / 2] | nibble << (to % 2 * 4));
  }
  return slice;
}

}  // namespace tfq::int4
