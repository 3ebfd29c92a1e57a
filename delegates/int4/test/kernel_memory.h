// What tests of kernels share: random values, and weights, rows and outputs that end where inaccessible memory begins.
#ifndef TFQ_DELEGATES_INT4_TEST_KERNEL_MEMORY_H_
#define TFQ_DELEGATES_INT4_TEST_KERNEL_MEMORY_H_

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/test/fenced_memory.h"

namespace tfq::int4 {

template <typename Kernel>
std::vector<const Kernel*> Runnable(KernelTable<Kernel> kernels) {
  std::vector<const Kernel*> runnable;
  for (const Kernel* kernel : kernels) {
    if (CpuRuns(kernel->tier)) runnable.push_back(kernel);
  }
  return runnable;
}

template <typename Kernel>
std::string NameOf(const testing::TestParamInfo<const Kernel*>& info) {
  return info.param->name;
}

// The range of weights.
inline int32_t LowestOf(const WeightFormat& format) { return -(1 << (format.bits - 1)); }
inline int32_t HighestOf(const WeightFormat& format) { return -1 - LowestOf(format); }

// What random values are drawn from.
enum class Values { kAny, kExtremes };

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  int32_t Between(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }

  float Real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }

  std::vector<float> Reals(size_t count, float low, float high) {
    std::vector<float> reals(count);
    for (float& value : reals) value = Real(low, high);
    return reals;
  }

  std::vector<int8_t> Integers(size_t count, int32_t low, int32_t high, Values values) {
    std::vector<int8_t> integers(count);
    for (int8_t& value : integers) {
      value = static_cast<int8_t>(values == Values::kAny ? Between(low, high) : Between(0, 1) ? high : low);
    }
    return integers;
  }

 private:
  std::mt19937 engine_;
};

// Weights as in the file, in memory that ends where they end.
class FencedWeights {
 public:
  FencedWeights(const std::vector<int8_t>& values, const WeightFormat& format)
      : bits_(format.bits),
        bytes_((values.size() * format.bits + 7) / 8),
        memory_(bytes_),
        data_(memory_.AtEnd(bytes_)) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (bits_ == 8) {
        data_[i] = static_cast<uint8_t>(values[i]);
      } else {
        data_[i / 2] |= static_cast<uint8_t>((values[i] & 15) << (i % 2 * 4));
      }
    }
  }
  WeightValues values() const { return {data_, bits_}; }

 private:
  int32_t bits_;
  size_t bytes_;
  FencedMemory memory_;
  uint8_t* data_;
};

// Rows of `width` values at either end of fenced slots, filled from a list.
template <typename T>
class FencedRows {
 public:
  FencedRows(const std::vector<T>& values, size_t width, Random& random)
      : memory_(width * sizeof(T), values.size() / width) {
    for (size_t row = 0; row < values.size() / width; ++row) {
      uint8_t* at = random.Between(0, 2) == 0 ? memory_.AtStart(row) : memory_.AtEnd(width * sizeof(T), row);
      std::memcpy(at, values.data() + row * width, width * sizeof(T));
      rows_.push_back(reinterpret_cast<const T*>(at));
    }
  }
  const T* operator[](size_t row) const { return rows_[row]; }

 private:
  FencedMemory memory_;
  std::vector<const T*> rows_;
};

// The packed weights, flush with a fence, and the same bytes whatever lay there before.
class FencedPack {
 public:
  template <typename Kernel, typename Shape, typename Source>
  FencedPack(const Kernel& kernel, const Shape& shape, const Source& source)
      : bytes_(kernel.packed_bytes(shape)), memory_(bytes_), data_(memory_.AtEnd(bytes_)) {
    EXPECT_EQ(bytes_ % kPackedAlignment, 0u);
    std::memset(data_, 0xff, bytes_);
    kernel.pack(shape, source, data_);
    const std::vector<uint8_t> first(data_, data_ + bytes_);
    std::memset(data_, 0, bytes_);
    kernel.pack(shape, source, data_);
    EXPECT_EQ(std::memcmp(first.data(), data_, bytes_), 0) << "packing leaves bytes unwritten";
  }
  const void* data() const { return data_; }

 private:
  size_t bytes_;
  FencedMemory memory_;
  uint8_t* data_;
};

// What a matrix kernel asks for to work in, flush with a fence.
class FencedScratch {
 public:
  template <typename Kernel, typename Shape>
  FencedScratch(const Kernel& kernel, const Shape& shape)
      : bytes_(kernel.scratch_bytes == nullptr ? 0 : kernel.scratch_bytes(shape)), memory_(bytes_) {
    std::memset(data(), 0x5a, bytes_);
  }
  void* data() { return memory_.AtEnd(bytes_); }

 private:
  size_t bytes_;
  FencedMemory memory_;
};

// Rows of outputs `stride` apart, the last of which ends at a fence.
template <typename T>
class FencedOutput {
 public:
  FencedOutput(int32_t rows, int32_t width, int32_t stride)
      : width_(static_cast<size_t>(width)),
        stride_(static_cast<size_t>(stride)),
        count_(static_cast<size_t>(rows - 1) * stride_ + width_),
        memory_(count_ * sizeof(T)),
        data_(reinterpret_cast<T*>(memory_.AtEnd(count_ * sizeof(T)))) {
    std::memset(data_, kUntouched, count_ * sizeof(T));
  }
  T* data() { return data_; }

  // The values, row by row; what lies between the rows has to be as it was.
  std::vector<T> Values() const {
    T untouched;
    std::memset(&untouched, kUntouched, sizeof(T));
    std::vector<T> values;
    for (size_t i = 0; i < count_; ++i) {
      if (i % stride_ < width_) {
        values.push_back(data_[i]);
      } else {
        EXPECT_EQ(data_[i], untouched) << "between the rows, at " << i;
      }
    }
    return values;
  }

  // Compares with expected[rows][width].
  void ExpectEquals(const std::vector<T>& expected) const {
    const std::vector<T> values = Values();
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(values[i], expected[i]) << "row " << i / width_ << " column " << i % width_;
    }
  }

 private:
  static constexpr int kUntouched = 0x5a;

  size_t width_;
  size_t stride_;
  size_t count_;
  FencedMemory memory_;
  T* data_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_KERNEL_MEMORY_H_
