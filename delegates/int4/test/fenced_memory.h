// Memory whose neighbours on both sides may not be touched: a kernel that reads or writes one byte too far stops the
// test, with or without a sanitizer.
#ifndef TFQ_DELEGATES_INT4_TEST_FENCED_MEMORY_H_
#define TFQ_DELEGATES_INT4_TEST_FENCED_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace tfq::int4 {

// `slots` areas of at least `bytes` each, with inaccessible pages between, before and behind them.
class FencedMemory {
 public:
  explicit FencedMemory(size_t bytes, size_t slots = 1);
  ~FencedMemory();
  FencedMemory(const FencedMemory&) = delete;
  FencedMemory& operator=(const FencedMemory&) = delete;

  // `bytes` bytes that end at the fence behind the slot; their start has whatever alignment that gives.
  uint8_t* AtEnd(size_t bytes, size_t slot = 0) const { return Slot(slot) + slot_bytes_ - bytes; }
  // Bytes that start at the fence in front of the slot.
  uint8_t* AtStart(size_t slot = 0) const { return Slot(slot); }

 private:
  uint8_t* Slot(size_t slot) const { return base_ + page_ + slot * (slot_bytes_ + page_); }

  size_t page_;
  size_t slot_bytes_;
  size_t total_;
  uint8_t* base_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_FENCED_MEMORY_H_
