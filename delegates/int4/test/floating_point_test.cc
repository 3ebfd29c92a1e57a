// Whole nodes with floating-point inputs and outputs, in a runtime of our own, against plain sums in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "delegates/int4/delegate.h"
#include "delegates/int4/packing/packing.h"
#include "delegates/int4/test/fake_graph.h"

namespace tfq::int4 {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int32_t Between(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }
  std::vector<float> Reals(int64_t count, float low, float high) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = std::uniform_real_distribution<float>(low, high)(engine_);
    return values;
  }

 private:
  std::mt19937 engine_;
};

// What an output has to be, and how far it may be off.
struct Wanted {
  double value;
  double bound;
};

// INT4 weights [n][depth] in the graph and in double; a block of 0 is one scale a channel.
struct Weights {
  Weights(FakeGraph* graph, Random* random, const std::vector<int32_t>& dims, int32_t block) {
    n = dims[0];
    depth = 1;
    for (size_t i = 1; i < dims.size(); ++i) depth *= dims[i];
    std::vector<uint8_t> bytes(static_cast<size_t>(n * depth + 1) / 2);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random->Between(0, 255));
    const std::vector<float> scales = random->Reals(n, 0.01f, 0.1f);
    tensor = graph->AddConstant("weights", abi::Type::kInt4, dims, scales, 0, bytes.data(), bytes.size());
    std::vector<uint16_t> halves;
    for (int32_t i = 0; block != 0 && i < n * depth / block; ++i) {
      halves.push_back(static_cast<uint16_t>(random->Between(0x2000, 0x2c00)));
    }
    for (int32_t i = 0; i < n * depth; ++i) {
      const float scale =
          block == 0 ? scales[static_cast<size_t>(i / depth)] : HalfToFloat(halves[static_cast<size_t>(i / block)]);
      values.push_back(static_cast<double>(scale) * ValueAt({bytes.data(), 4}, static_cast<size_t>(i)));
    }
    if (block == 0) return;
    const int32_t scale_tensor =
        graph->AddConstant("scales", abi::Type::kFloat16, {n, depth / block}, {}, 0, halves.data(), 2 * halves.size());
    graph->SetBlockwise(&graph->tensor(tensor), {scale_tensor, -1, block, 0});
  }

  int32_t tensor, n, depth;
  std::vector<double> values;
};

// One output: the sum over pairs of an input (nullptr: outside the image) and a weight. The input's rounding to 8 bits
// over `range` moves it by at most a step for each weight; rounding to 31 bits only as float32 sums are rounded anyway.
Wanted SumOf(const std::vector<const float*>& inputs, const double* weights, double bias, double range,
             bool weight_only) {
  Wanted wanted = {bias, 0};
  double magnitude = std::abs(bias), sum_of_weights = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    sum_of_weights += std::abs(weights[i]);
    const double product = inputs[i] == nullptr ? 0 : static_cast<double>(*inputs[i]) * weights[i];
    wanted.value += product;
    magnitude += std::abs(product);
  }
  wanted.bound = weight_only ? 1e-6 * magnitude : 1.01 * range / 255 * sum_of_weights + 1e-6 * magnitude;
  return wanted;
}

double RangeOf(const float* begin, int64_t count) {
  const auto bounds = std::minmax_element(begin, begin + count);
  return std::max(static_cast<double>(*bounds.second), 0.0) - std::min(static_cast<double>(*bounds.first), 0.0);
}

void ExpectNear(const std::vector<float>& values, const std::vector<Wanted>& wanted) {
  ASSERT_EQ(values.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(values[i]), wanted[i].value, wanted[i].bound) << "value " << i;
  }
}

void RunAndCompare(FakeGraph* graph, const Options& options, int32_t output, const std::vector<Wanted>& wanted) {
  Int4Delegate delegate(options);
  testing::internal::CaptureStderr();
  ASSERT_EQ(delegate.get()->Prepare(graph->context(), delegate.get()), abi::Status::kOk);
  const std::string said = testing::internal::GetCapturedStderr();
  if (said.find("no fast kernel") != std::string::npos) return;
  ASSERT_EQ(graph->kernels(), 1u) << said;
  ASSERT_EQ(graph->Prepare(), abi::Status::kOk) << graph->errors();
  for (int32_t round = 0; round < 2; ++round) {
    ASSERT_EQ(graph->Invoke(), abi::Status::kOk) << graph->errors();
    ExpectNear(graph->Values<float>(output), wanted);
  }
}

Options OptionsFor(uint32_t seed) {
  Options options;
  options.cpu = seed % 2 == 0 ? BestCpuTier() : CpuTier::kReference;
  options.threads = static_cast<int32_t>(seed % 3) + 1;
  return options;
}

class FloatingPoint : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(WeightOnly, FloatingPoint, testing::Bool());

TEST_P(FloatingPoint, DenseLayersAreNearTheExactSums) {
  const bool weight_only = GetParam();
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    FakeGraph graph;
    const int32_t block = seed % 4 < 2 ? 0 : 32 * random.Between(1, 8);
    const int32_t depth = block == 0 ? random.Between(1, 200) : block * random.Between(1, 3);
    const int32_t rows = random.Between(1, 9), n = random.Between(1, 70);
    const int32_t input = graph.AddTensor("input", abi::Type::kFloat32, {rows, depth}, {});
    const Weights weights(&graph, &random, {n, depth}, block);
    const std::vector<float> bias = random.Reals(n, -1, 1);
    const int32_t bias_tensor =
        graph.AddConstant("bias", abi::Type::kFloat32, {n}, {}, 0, bias.data(), 4 * bias.size());
    const int32_t output = graph.AddTensor("output", abi::Type::kFloat32, {rows, n}, {});
    int32_t read = weights.tensor;
    if (weight_only) {
      read = graph.AddTensor("dequantized", abi::Type::kFloat32, {n, depth}, {});
      graph.AddNode(abi::kDequantize, {weights.tensor}, read, 0);
    }
    graph.AddNode(abi::kFullyConnected, {input, read, bias_tensor}, output,
                  abi::DenseParams{abi::Activation::kNone, 0, false, false});
    const std::vector<float> values = random.Reals(int64_t{rows} * depth, -3, 2);
    graph.Fill(input, values);

    std::vector<Wanted> wanted;
    for (int32_t row = 0; row < rows; ++row) {
      const float* from = values.data() + row * depth;
      std::vector<const float*> inputs;
      for (int32_t c = 0; c < depth; ++c) inputs.push_back(from + c);
      for (int32_t i = 0; i < n; ++i) {
        wanted.push_back(SumOf(inputs, weights.values.data() + i * depth,
                               static_cast<double>(bias[static_cast<size_t>(i)]), RangeOf(from, depth), weight_only));
      }
    }
    RunAndCompare(&graph, OptionsFor(seed), output, wanted);
    if (HasFatalFailure()) return;
  }
}

TEST(FloatingPointConv, IsNearTheExactSums) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    FakeGraph graph;
    const int32_t batch = random.Between(1, 2), size = random.Between(3, 9), channels = random.Between(1, 30);
    const int32_t n = random.Between(1, 40), kernel = seed % 3 == 0 ? 1 : 3;
    const int32_t input = graph.AddTensor("input", abi::Type::kFloat32, {batch, size, size, channels}, {});
    const Weights weights(&graph, &random, {n, kernel, kernel, channels}, 0);
    const int32_t output = graph.AddTensor("output", abi::Type::kFloat32, {batch, size, size, n}, {});
    graph.AddNode(abi::kConv2D, {input, weights.tensor, abi::kOptionalTensor}, output,
                  abi::ConvParams{abi::Padding::kSame, 1, 1, abi::Activation::kNone, 1, 1});
    const int32_t image_values = size * size * channels;
    const std::vector<float> values = random.Reals(int64_t{batch} * image_values, -1, 3);
    graph.Fill(input, values);

    std::vector<Wanted> wanted;
    for (int32_t place = 0; place < batch * size * size; ++place) {
      const float* image = values.data() + place / (size * size) * image_values;
      const int32_t y = place / size % size, x = place % size;
      std::vector<const float*> inputs;
      for (int32_t tap = 0; tap < kernel * kernel; ++tap) {
        const int32_t in_y = y + tap / kernel - kernel / 2, in_x = x + tap % kernel - kernel / 2;
        const bool inside = in_y >= 0 && in_y < size && in_x >= 0 && in_x < size;
        for (int32_t c = 0; c < channels; ++c) {
          inputs.push_back(inside ? image + (in_y * size + in_x) * channels + c : nullptr);
        }
      }
      for (int32_t i = 0; i < n; ++i) {
        wanted.push_back(
            SumOf(inputs, weights.values.data() + i * weights.depth, 0, RangeOf(image, image_values), false));
      }
    }
    RunAndCompare(&graph, OptionsFor(seed), output, wanted);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace tfq::int4
