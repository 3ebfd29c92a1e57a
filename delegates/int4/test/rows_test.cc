// The kernels of the operators around linear layers, every one of the tables that this CPU runs, in fenced memory and
// bit for bit against definitions written in another way.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/test/fenced_memory.h"
#include "delegates/int4/test/oracle.h"

namespace tfq::int4 {
namespace {

constexpr int64_t kCounts[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 100, 1000};

template <typename Kernel>
std::vector<const Kernel*> Runnable(KernelTable<Kernel> kernels) {
  std::vector<const Kernel*> runnable;
  for (const Kernel* kernel : kernels) {
    if (CpuRuns(kernel->tier)) runnable.push_back(kernel);
  }
  return runnable;
}

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int32_t Between(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }
  std::vector<int8_t> Integers(int64_t count) {
    std::vector<int8_t> integers(static_cast<size_t>(count));
    for (int8_t& value : integers) value = static_cast<int8_t>(Between(-128, 127));
    return integers;
  }
  OutputStage Stage(Rounding rounding) {
    OutputStage stage{Between(-128, 127), -128, 127, rounding};
    if (Between(0, 2) == 0) stage.min = stage.zero_point;
    if (Between(0, 2) == 0) stage.max = Between(stage.min, 127);
    return stage;
  }

 private:
  std::mt19937 engine_;
};

// Bytes that end at a fence.
class Fenced {
 public:
  explicit Fenced(const std::vector<int8_t>& values) : memory_(values.size()), data_(memory_.AtEnd(values.size())) {
    std::memcpy(data_, values.data(), values.size());
  }
  int8_t* data() const { return reinterpret_cast<int8_t*>(data_); }

 private:
  FencedMemory memory_;
  uint8_t* data_;
};

template <typename Run>
std::vector<int8_t> Output(int64_t count, const Run& run) {
  const Fenced out(std::vector<int8_t>(static_cast<size_t>(count)));
  run(out.data());
  return {out.data(), out.data() + count};
}

int8_t Clamp(int64_t value, const OutputStage& stage) {
  return static_cast<int8_t>(std::min<int64_t>(std::max<int64_t>(value, stage.min), stage.max));
}

int64_t ExpectedTerm(const AddTerm& term, int8_t x) {
  const int64_t shifted = int64_t{x - term.zero_point} * (int64_t{1} << term.left);
  return RoundAway(RoundUpward(shifted * term.multiplier, 31), term.right);
}

AddTerm RandomTerm(Random& random, bool vector) {
  const int32_t shift = random.Between(0, 10);
  AddTerm term = {random.Between(-128, 127), random.Between(1 << 30, INT32_MAX), 20, 0};
  if (random.Between(0, 2) == 0) term.multiplier = 1 << 30;
  (vector ? term.left : term.right) = vector ? 20 - shift : shift;
  return term;
}

TEST(Rows, SumsAreTheOraclesForEveryPairAndCount) {
  Random random(1);
  for (const AddKernel* kernel : Runnable(AddKernels())) {
    SCOPED_TRACE(kernel->name);
    for (int32_t round = 0; round < 40; ++round) {
      const bool vector = round % 2 == 0;
      AddParams params = {RandomTerm(random, vector), RandomTerm(random, vector), random.Between(1 << 30, INT32_MAX),
                          -random.Between(16, 20), random.Stage(Rounding::kDouble)};
      for (const int64_t count : kCounts) {
        const Fenced a(random.Integers(count)), b(random.Integers(count));
        const auto out = Output(count, [&](int8_t* to) { kernel->run(params, count, a.data(), b.data(), to); });
        for (int64_t i = 0; i < count; ++i) {
          const int64_t sum = ExpectedTerm(params.a, a.data()[i]) + ExpectedTerm(params.b, b.data()[i]);
          const int64_t scaled = RoundAway(RoundUpward(sum * params.multiplier, 31), -params.shift);
          ASSERT_EQ(out[static_cast<size_t>(i)], Clamp(scaled + params.stage.zero_point, params.stage)) << count;
        }
      }
    }
  }
}

// All pairs of values, with scales that layers have: any, those that make half of the sums ties, and those that leave a
// vector form in floating point nothing to be sure of.
TEST(Rows, SumsOfAllPairsAreTheOracles) {
  Random random(9);
  std::vector<int8_t> a, b;
  for (int32_t x = -128; x <= 127; ++x) {
    for (int32_t y = -128; y <= 127; ++y) {
      a.push_back(static_cast<int8_t>(x));
      b.push_back(static_cast<int8_t>(y));
    }
  }
  const auto count = static_cast<int64_t>(a.size());
  std::vector<AddParams> all;
  for (int32_t i = 0; i < 8; ++i) {
    const AddTerm larger = {random.Between(-128, 127), 1 << 30, 20, 0};
    const AddTerm smaller = {random.Between(-128, 127), random.Between(1 << 30, INT32_MAX), 20, random.Between(0, 3)};
    all.push_back({larger, smaller, random.Between(1 << 30, INT32_MAX), -random.Between(16, 19),
                   random.Stage(Rounding::kDouble)});
  }
  const AddTerm half = {3, 1 << 30, 20, 0};
  for (const int32_t shift : {-19, -18, -2, -1, 0}) {
    all.push_back({half, half, 1 << 30, shift, random.Stage(Rounding::kDouble)});
  }
  for (const AddKernel* kernel : Runnable(AddKernels())) {
    SCOPED_TRACE(kernel->name);
    for (const AddParams& params : all) {
      const auto out = Output(count, [&](int8_t* to) { kernel->run(params, count, a.data(), b.data(), to); });
      std::vector<int8_t> expected;
      for (size_t i = 0; i < a.size(); ++i) {
        const int64_t sum = ExpectedTerm(params.a, a[i]) + ExpectedTerm(params.b, b[i]);
        const int64_t scaled = RoundAway(RoundUpward(sum * params.multiplier, 31), -params.shift);
        expected.push_back(Clamp(scaled + params.stage.zero_point, params.stage));
      }
      ASSERT_EQ(out, expected) << params.shift;
    }
  }
}

TEST(Rows, SumsRoundedOnceAreTheOracles) {
  Random random(2);
  for (const AddKernel* kernel : Runnable(AddKernels())) {
    SCOPED_TRACE(kernel->name);
    for (int32_t round = 0; round < 40; ++round) {
      const AddTerm a_term = {random.Between(-128, 127), random.Between(1 << 20, 1 << 21), 0, 0};
      const AddTerm b_term = {random.Between(-128, 127), random.Between(0, 1 << 21), 0, 0};
      const AddParams params = {a_term, b_term, 1, -random.Between(13, 30), random.Stage(Rounding::kSingle)};
      for (const int64_t count : kCounts) {
        const Fenced a(random.Integers(count)), b(random.Integers(count));
        const auto out = Output(count, [&](int8_t* to) { kernel->run(params, count, a.data(), b.data(), to); });
        for (int64_t i = 0; i < count; ++i) {
          const int64_t sum = int64_t{a.data()[i] - a_term.zero_point} * a_term.multiplier +
                              int64_t{b.data()[i] - b_term.zero_point} * b_term.multiplier;
          const int64_t value = RoundUpward(sum, -params.shift) + params.stage.zero_point;
          ASSERT_EQ(out[static_cast<size_t>(i)], Clamp(value, params.stage)) << count;
        }
      }
    }
  }
}

TEST(Rows, ProductsAreTheOracles) {
  Random random(3);
  for (const MulKernel* kernel : Runnable(MulKernels())) {
    SCOPED_TRACE(kernel->name);
    for (int32_t round = 0; round < 60; ++round) {
      MulParams params = {random.Between(-128, 127),
                          random.Between(-128, 127),
                          random.Between(1 << 30, INT32_MAX),
                          -random.Between(-1, 12),
                          0,
                          random.Stage(Rounding::kDouble)};
      // Powers of two make ties.
      if (round % 3 == 1) params.scale = std::ldexp(1.0f, -random.Between(1, 12));
      if (round % 4 == 3) params.stage.rounding = Rounding::kSingle;
      if (round % 3 == 2) params.scale = static_cast<float>(random.Between(1, 1000)) * 1e-5f;
      for (const int64_t count : kCounts) {
        const Fenced a(random.Integers(count)), b(random.Integers(count));
        const auto out = Output(count, [&](int8_t* to) { kernel->run(params, count, a.data(), b.data(), to); });
        for (int64_t i = 0; i < count; ++i) {
          const int32_t product = (a.data()[i] - params.a_zero_point) * (b.data()[i] - params.b_zero_point);
          int64_t value;
          if (params.scale == 0) {
            value = OracleMultiply(product, params.multiplier, params.shift, params.stage.rounding, 0, 1);
          } else {
            const double scaled = static_cast<double>(static_cast<float>(product) * params.scale);
            value = static_cast<int64_t>(std::nearbyint(std::min(std::max(scaled, -300.0), 300.0)));
          }
          ASSERT_EQ(out[static_cast<size_t>(i)], Clamp(value + params.stage.zero_point, params.stage)) << product;
        }
      }
    }
  }
}

TEST(Rows, TablesAreLookedUp) {
  Random random(4);
  for (const LookupKernel* kernel : Runnable(LookupKernels())) {
    SCOPED_TRACE(kernel->name);
    const Fenced table(random.Integers(256));
    for (const int64_t count : kCounts) {
      std::vector<int8_t> values(static_cast<size_t>(count));
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(i * 37);
      const Fenced in(values);
      const auto out = Output(count, [&](int8_t* to) { kernel->run(table.data(), count, in.data(), to); });
      for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(out[i], table.data()[values[i] + 128]);
    }
  }
}

TEST(Rows, RowsAreSummedOnTopOfWhatIsThere) {
  Random random(5);
  for (const SumRowsKernel* kernel : Runnable(SumRowsKernels())) {
    SCOPED_TRACE(kernel->name);
    for (const int32_t channels : {1, 8, 15, 16, 17, 40}) {
      for (const int32_t count : {0, 1, 2, 255, 256, 257, 600}) {
        const Fenced lowest(std::vector<int8_t>(static_cast<size_t>(channels), -128));
        const Fenced other(random.Integers(channels));
        std::vector<const int8_t*> rows(static_cast<size_t>(count), lowest.data());
        for (size_t row = 0; row < rows.size(); row += 3) rows[row] = other.data();
        const int32_t others = (count + 2) / 3;
        std::vector<int32_t> sums(static_cast<size_t>(channels), 11);
        kernel->run(rows.data(), count, channels, sums.data());
        for (int32_t c = 0; c < channels; ++c) {
          ASSERT_EQ(sums[static_cast<size_t>(c)], 11 + others * other.data()[c] - 128 * (count - others));
        }
      }
    }
  }
}

TEST(Rows, MaximaAreClamped) {
  Random random(6);
  for (const MaxRowsKernel* kernel : Runnable(MaxRowsKernels())) {
    SCOPED_TRACE(kernel->name);
    for (const int32_t channels : {1, 15, 16, 31, 32, 33, 70}) {
      for (const int32_t count : {1, 2, 9}) {
        std::vector<std::unique_ptr<Fenced>> memory;
        std::vector<const int8_t*> rows;
        for (int32_t row = 0; row < count; ++row) {
          memory.push_back(std::make_unique<Fenced>(random.Integers(channels)));
          rows.push_back(memory.back()->data());
        }
        const OutputStage stage = random.Stage(Rounding::kDouble);
        const auto out = Output(channels, [&](int8_t* to) {
          kernel->run(rows.data(), count, channels, static_cast<int8_t>(stage.min), static_cast<int8_t>(stage.max), to);
        });
        for (int32_t c = 0; c < channels; ++c) {
          int8_t largest = -128;
          for (const int8_t* row : rows) largest = std::max(largest, row[c]);
          ASSERT_EQ(out[static_cast<size_t>(c)], Clamp(largest, stage));
        }
      }
    }
  }
}

}  // namespace
}  // namespace tfq::int4
