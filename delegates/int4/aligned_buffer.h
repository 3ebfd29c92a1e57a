// Memory aligned for the kernels, whose allocation can fail without ending the program.
#ifndef TFQ_DELEGATES_INT4_ALIGNED_BUFFER_H_
#define TFQ_DELEGATES_INT4_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

class AlignedBuffer {
 public:
  // Makes room for `bytes`, dropping what was there. False when there is no memory.
  bool Allocate(size_t bytes) {
    if (bytes <= size_) return true;
    void* memory = nullptr;
    data_.reset();
    size_ = 0;
    if (posix_memalign(&memory, kPackedAlignment, bytes) != 0) return false;
    data_.reset(static_cast<uint8_t*>(memory));
    size_ = bytes;
    return true;
  }

  uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t size_ = 0;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_ALIGNED_BUFFER_H_
