// Every kernel with floating-point outputs that this CPU runs, against exact sums in double, in fenced memory; and the
// quantization of rows against the reference, bit for bit.
#include <algorithm>
#include <cmath>
#include <limits>

#include "delegates/int4/packing/packing.h"
#include "delegates/int4/test/kernel_memory.h"

namespace tfq::int4 {
namespace {

constexpr double kEpsilon = 1.0 / (1 << 24);  // half a unit in the last place of a float of 1

// A result and what its rounding errors are measured by: the magnitudes that were added up.
struct Exact {
  double value;
  double magnitude;
};

// Weights with random scales; block 0 for one scale a channel.
struct Weights {
  Weights(const WeightFormat& format, const GemmShape& shape, Random& random)
      : shape(shape),
        values(random.Integers(size_t(shape.n) * shape.taps * shape.channels, LowestOf(format) + random.Between(0, 1),
                               HighestOf(format), Values::kAny)),
        fenced(values, format),
        bias(random.Reals(shape.n, -2, 2)),
        has_bias(random.Between(0, 3) != 0) {
    if (shape.block == 0) {
      scale = random.Reals(shape.n, 0.001f, 0.03f);
    } else {
      for (size_t i = 0; i < shape.n * BlocksOf(shape); ++i) {
        // Halves of 2^-10 to 2^-5, some subnormal.
        block_scale.push_back(static_cast<uint16_t>(random.Between(0, 9) == 0 ? random.Between(0, 1023)
                                                                              : random.Between(5 << 10, 10 << 10)));
      }
    }
  }
  ScaledWeights source() const {
    return {fenced.values(), has_bias ? bias.data() : nullptr, scale.data(), block_scale.data()};
  }
  double Scale(size_t n, size_t c) const {
    if (shape.block == 0) return static_cast<double>(scale[n]);
    const uint16_t half = block_scale[n * (shape.channels / shape.block) + c / shape.block];
    const int exponent = half >> 10;
    return exponent == 0 ? std::ldexp(half, -24) : std::ldexp((half & 1023) + 1024, exponent - 25);
  }
  double Bias(size_t n) const { return has_bias ? static_cast<double>(bias[n]) : 0; }

  GemmShape shape;
  std::vector<int8_t> values;
  FencedWeights fenced;
  std::vector<float> bias;
  bool has_bias;
  std::vector<float> scale;
  std::vector<uint16_t> block_scale;
};

struct Columns {
  int32_t begin, end;
};

template <typename Kernel>
Columns RandomColumns(const Kernel& kernel, int32_t n, Random& random) {
  const int32_t blocks = (n + kernel.nr - 1) / kernel.nr;
  const int32_t begin = random.Between(0, 1) ? 0 : random.Between(0, blocks - 1) * kernel.nr;
  return {begin, random.Between(0, 1) ? n : std::min(n, begin + kernel.nr * random.Between(1, 3))};
}

template <typename T>
std::vector<const T*> TileRows(const FencedRows<T>& rows, int32_t taps, int32_t m, int32_t mr) {
  std::vector<const T*> tile;
  for (int32_t tap = 0; tap < taps; ++tap) {
    for (int32_t i = 0; i < mr; ++i) tile.push_back(rows[size_t(tap) * m + (i < m ? i : 0)]);
  }
  return tile;
}

// Outputs within `errors` rounding errors of the exact ones, clamped.
template <typename Stage, typename Compute>
void ExpectNear(const FencedOutput<float>& output, int32_t m, const Columns& columns, const Stage& stage, double errors,
                const Compute& exact) {
  const std::vector<float> values = output.Values();
  size_t i = 0;
  for (int32_t row = 0; row < m; ++row) {
    for (int32_t n = columns.begin; n < columns.end; ++n, ++i) {
      const Exact wanted = exact(row, n);
      const double low = static_cast<double>(stage.min), high = static_cast<double>(stage.max);
      ASSERT_NEAR(static_cast<double>(values[i]), std::min(std::max(wanted.value, low), high),
                  errors * kEpsilon * wanted.magnitude + 1e-37)
          << "row " << row << " column " << n;
    }
  }
}

FloatStage RandomStage(Random& random) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return random.Between(0, 1) ? FloatStage{-kInfinity, kInfinity} : FloatStage{random.Real(-3, 0), random.Real(0, 3)};
}

// -------------------------------------------------------------------------------------------------------------------
// rows quantized at run time

void CheckDynamic(const DynamicGemmKernel& kernel, const GemmShape& shape, int32_t m, Random& random) {
  SCOPED_TRACE(testing::Message() << "n " << shape.n << " taps " << shape.taps << " channels " << shape.channels
                                  << " block " << shape.block << " m " << m);
  const Weights weights(kernel.weights, shape, random);
  const FencedPack packed(kernel, shape, weights.source());
  const std::vector<int8_t> activations =
      random.Integers(size_t(m) * shape.taps * shape.channels, -128, 127, Values::kAny);
  const FencedRows<int8_t> rows(activations, shape.channels, random);
  const std::vector<const int8_t*> tile_rows = TileRows(rows, shape.taps, m, kernel.mr);

  std::vector<RowQuantization> quantization;
  std::vector<int32_t> sums;
  for (int32_t row = 0; row < m; ++row) {
    quantization.push_back({random.Real(0.001f, 0.1f), random.Between(-128, 127)});
    for (int32_t c = 0; shape.block != 0 && c < shape.channels; ++c) {
      if (c % shape.block == 0) sums.push_back(0);
      sums.back() += activations[size_t(row) * shape.channels + c];
    }
  }
  const FloatStage range = RandomStage(random);
  const DynamicStage stage = {range.min, range.max, quantization.data(), sums.data()};
  const Columns columns = RandomColumns(kernel, shape.n, random);
  const int32_t width = columns.end - columns.begin, stride = width + random.Between(0, 5);
  FencedOutput<float> output(m, width, stride);
  FencedScratch scratch(kernel, shape);
  kernel.run(shape, {m, columns.begin, columns.end, tile_rows.data(), packed.data(), output.data(), stride, stage,
                     scratch.data()});

  // Sums of a block are exact integers; one error for each of the few steps after, one more for each block.
  ExpectNear(output, m, columns, stage, 4.0 + static_cast<double>(BlocksOf(shape)), [&](int32_t row, int32_t n) {
    const RowQuantization& q = quantization[row];
    const double scale = static_cast<double>(q.scale);
    Exact exact = {weights.Bias(n), std::abs(weights.Bias(n))};
    int64_t block_sum = 0, block_weights = 0;
    for (int32_t tap = 0; tap < shape.taps; ++tap) {
      for (int32_t c = 0; c < shape.channels; ++c) {
        const int32_t w = weights.values[(size_t(n) * shape.taps + tap) * shape.channels + c];
        block_sum += activations[(size_t(tap) * m + row) * shape.channels + c] * w;
        block_weights += w;
        const bool last =
            shape.block != 0 ? (c + 1) % shape.block == 0 : tap + 1 == shape.taps && c + 1 == shape.channels;
        if (!last) continue;
        const double factor = scale * weights.Scale(n, c);
        exact.value += factor * static_cast<double>(block_sum - q.zero_point * block_weights);
        exact.magnitude += factor * (std::abs(static_cast<double>(block_sum)) +
                                     std::abs(static_cast<double>(q.zero_point * block_weights)));
        block_sum = block_weights = 0;
      }
    }
    return exact;
  });
}

// A shape for this kernel: any number of channels, or a number of blocks.
GemmShape AnyShape(const WeightFormat& format, int32_t n, int32_t taps, int32_t channels, Random& random) {
  if (!format.blocks) return {n, taps, channels};
  const int32_t block = 32 * random.Between(1, 8);
  return {n, 1, block * (1 + channels % 5), block};
}

template <typename Kernel, typename Check>
void CheckShapes(const Kernel& kernel, const Check& check) {
  Random random(1);
  for (int32_t channels = 1; channels <= 70; ++channels) {
    check(kernel, AnyShape(kernel.weights, random.Between(1, 40), random.Between(1, 4), channels, random),
          random.Between(1, kernel.mr), random);
    if (testing::Test::HasFatalFailure()) return;
  }
  for (int32_t n = 1; n <= 70; ++n) {
    for (int32_t m = 1; m <= kernel.mr; ++m) {
      check(kernel, AnyShape(kernel.weights, n, random.Between(1, 2), random.Between(1, 40), random), m, random);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  for (int32_t taps = 1; taps <= 25; ++taps) {
    check(kernel, AnyShape(kernel.weights, random.Between(1, 24), taps, random.Between(1, 70), random),
          random.Between(1, kernel.mr), random);
    if (testing::Test::HasFatalFailure()) return;
  }
  check(kernel, kernel.weights.blocks ? GemmShape{33, 1, 4096, 64} : GemmShape{33, 1, 4099}, kernel.mr, random);
}

class DynamicGemm : public testing::TestWithParam<const DynamicGemmKernel*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, DynamicGemm, testing::ValuesIn(Runnable(DynamicGemmKernels())),
                         NameOf<DynamicGemmKernel>);

TEST_P(DynamicGemm, IsNearTheExactSums) { CheckShapes(*GetParam(), CheckDynamic); }

// -------------------------------------------------------------------------------------------------------------------
// quantization of rows

struct QuantizedRow {
  std::vector<RowQuantization> quantization;
  std::vector<int8_t> values;
  std::vector<int32_t> sums;
};

QuantizedRow Quantize(const QuantizeKernel& kernel, const std::vector<float>& row, int32_t block) {
  Random random(1);
  const FencedRows<float> fenced(row, row.size(), random);
  const int32_t count = static_cast<int32_t>(row.size());
  FencedOutput<int8_t> values(kernel.digits, count, count);
  QuantizedRow quantized;
  quantized.quantization.resize(kernel.digits);
  quantized.sums.resize(block == 0 ? 0 : kernel.digits * (count / block));
  kernel.run(fenced[0], count, block, values.data(), quantized.sums.data(), quantized.quantization.data());
  quantized.values = values.Values();
  return quantized;
}

double Real(const QuantizedRow& row, size_t count, size_t i) {
  double real = 0;
  for (size_t d = 0; d < row.quantization.size(); ++d) {
    const RowQuantization& q = row.quantization[d];
    real += static_cast<double>(q.scale) * (row.values[d * count + i] - q.zero_point);
  }
  return real;
}

class QuantizeRow : public testing::TestWithParam<const QuantizeKernel*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, QuantizeRow, testing::ValuesIn(Runnable(QuantizeKernels())), NameOf<QuantizeKernel>);

TEST_P(QuantizeRow, IsWithinAStep) {
  Random random(2);
  for (int32_t count = 1; count <= 200; ++count) {
    const float low = random.Real(-5, 1);
    const std::vector<float> row = random.Reals(count, low, low + random.Real(0.01f, 9));
    const QuantizedRow quantized = Quantize(*GetParam(), row, 0);
    const auto bounds = std::minmax_element(row.begin(), row.end());
    const double lowest = std::min(static_cast<double>(*bounds.first), 0.0);
    const double highest = std::max(static_cast<double>(*bounds.second), 0.0);
    // Half a step; the zero point of one digit is rounded too, which may take a value at an end of the range another
    // half. Three digits have half a step of 2^-22.99 of the largest; the rest is
    // what scaling in float32 rounds.
    const double bound =
        GetParam()->digits == 1 ? (highest - lowest) / 255 * 1.001 : std::max(highest, -lowest) * std::ldexp(1.0, -22);
    for (size_t i = 0; i < row.size(); ++i) {
      ASSERT_NEAR(Real(quantized, row.size(), i), static_cast<double>(row[i]), bound);
    }
  }
}

TEST_P(QuantizeRow, EqualsTheReferenceAndAddsUpItsBlocks) {
  const QuantizeKernel& reference = *ChooseQuantize(CpuTier::kReference, GetParam()->digits);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float odd_values[] = {0, -0.0f, std::nanf(""), kInfinity, -kInfinity, 3e38f, -3e38f, 1e-38f, 1e-45f, 1e20f};
  Random random(3);
  for (int32_t round = 0; round < 300; ++round) {
    const int32_t block = round % 2 == 0 ? 0 : 32 * random.Between(1, 4);
    const int32_t count = block == 0 ? random.Between(1, 100) : block * random.Between(1, 4);
    std::vector<float> row = random.Reals(count, -4, 4);
    if (round % 3 == 0) {
      for (int32_t i = 0; i < 3; ++i) row[random.Between(0, count - 1)] = odd_values[random.Between(0, 9)];
    }
    if (round % 17 == 0) row.assign(count, odd_values[random.Between(0, 9)]);
    const QuantizedRow quantized = Quantize(*GetParam(), row, block);
    const QuantizedRow wanted = Quantize(reference, row, block);
    for (size_t d = 0; d < wanted.quantization.size(); ++d) {
      ASSERT_EQ(quantized.quantization[d].zero_point, wanted.quantization[d].zero_point);
      ASSERT_EQ(std::memcmp(&quantized.quantization[d].scale, &wanted.quantization[d].scale, sizeof(float)), 0);
    }
    ASSERT_EQ(quantized.values, wanted.values);
    for (size_t b = 0; b < quantized.sums.size(); ++b) {
      int32_t sum = 0;
      for (int32_t i = 0; i < block; ++i) sum += quantized.values[b * block + i];
      ASSERT_EQ(quantized.sums[b], sum);
    }
  }
}

TEST_P(QuantizeRow, ZerosStayZeros) {
  const QuantizedRow quantized = Quantize(*GetParam(), std::vector<float>(40, 0.0f), 0);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(Real(quantized, 40, i), 0);
}

}  // namespace
}  // namespace tfq::int4
