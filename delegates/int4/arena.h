// Places buffers that live at different times into one block of memory.
#ifndef TFQ_DELEGATES_INT4_ARENA_H_
#define TFQ_DELEGATES_INT4_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tfq::int4 {

struct Lifetime {
  size_t bytes;
  int32_t first;  // step that writes it
  int32_t last;   // last step that reads it
};

// Offsets, multiples of the kernels' alignment, such that buffers that live in the same step do not overlap. Returns
// the bytes that all of them need together.
size_t PlanArena(const std::vector<Lifetime>& lifetimes, std::vector<size_t>* offsets);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_ARENA_H_
