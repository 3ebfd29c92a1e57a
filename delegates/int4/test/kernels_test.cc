// Every kernel in the table that this CPU runs, against the oracle, bit for bit, in fenced memory.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/test/kernel_memory.h"
#include "delegates/int4/test/oracle.h"

namespace tfq::int4 {
namespace {

constexpr Rounding kRoundings[] = {Rounding::kDoubleUpward, Rounding::kDouble, Rounding::kDoubleByEights,
                                   Rounding::kSingle};

// Parameters of the output channels. Multipliers bring a sum of this depth to the size of an output, so that most
// outputs are neither zero nor clamped.
struct Channels {
  std::vector<int32_t> bias, multiplier, shift;
};

Channels RandomChannels(Random& random, const WeightFormat& format, int32_t n, int32_t depth) {
  Channels channels;
  const double scale = 60.0 / (37.5 * HighestOf(format) * std::sqrt(depth));
  for (int32_t i = 0; i < n; ++i) {
    int exponent;
    const double mantissa = std::frexp(scale * random.Between(50, 300) / 100.0, &exponent);
    channels.bias.push_back(random.Between(-3000, 3000));
    channels.multiplier.push_back(static_cast<int32_t>(mantissa * 2147483647.0));
    channels.shift.push_back(exponent);
  }
  return channels;
}

OutputStage RandomStage(Random& random) {
  OutputStage stage{random.Between(-128, 127), -128, 127, kRoundings[random.Between(0, 3)]};
  if (random.Between(0, 2) == 0) stage.min = stage.zero_point;
  if (random.Between(0, 2) == 0) stage.max = random.Between(stage.min, 127);
  return stage;
}

// ------------------------------------------------------------------------------------------------------------------
// GEMM

struct GemmCase {
  GemmShape shape;
  int32_t m;
  int32_t n_begin;
  int32_t n_end;
  int32_t input_zero_point;
  bool has_bias;
  OutputStage stage;
  Channels channels;
  std::vector<int8_t> weights;      // [n][taps][channels]
  std::vector<int8_t> activations;  // [taps][m][channels]
};

void CheckGemm(const GemmKernel& kernel, const GemmCase& c, Random& random) {
  const GemmShape& shape = c.shape;
  SCOPED_TRACE(testing::Message() << "n " << shape.n << " taps " << shape.taps << " channels " << shape.channels
                                  << " m " << c.m << " columns " << c.n_begin << ".." << c.n_end << " input zero point "
                                  << c.input_zero_point << " rounding " << static_cast<int>(c.stage.rounding));
  const FencedWeights weights(c.weights, kernel.weights);
  const FencedRows<int8_t> activations(c.activations, shape.channels, random);
  const WeightSource source{weights.values(), c.has_bias ? c.channels.bias.data() : nullptr,
                            c.channels.multiplier.data(), c.channels.shift.data(), c.input_zero_point};
  const FencedPack packed(kernel, shape, source);

  std::vector<const int8_t*> rows;
  for (int32_t tap = 0; tap < shape.taps; ++tap) {
    for (int32_t m = 0; m < kernel.mr; ++m) rows.push_back(activations[tap * c.m + (m < c.m ? m : 0)]);
  }
  const int32_t width = c.n_end - c.n_begin;
  const int32_t stride = width + random.Between(0, 5);
  FencedOutput<int8_t> output(c.m, width, stride);
  FencedScratch scratch(kernel, shape);
  kernel.run(shape,
             {c.m, c.n_begin, c.n_end, rows.data(), packed.data(), output.data(), stride, c.stage, scratch.data()});

  std::vector<int8_t> expected;
  for (int32_t m = 0; m < c.m; ++m) {
    for (int32_t n = c.n_begin; n < c.n_end; ++n) {
      int64_t sum = c.has_bias ? c.channels.bias[n] : 0;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int8_t* a = c.activations.data() + (size_t(tap) * c.m + m) * shape.channels;
        const int8_t* w = c.weights.data() + (size_t(n) * shape.taps + tap) * shape.channels;
        for (int32_t k = 0; k < shape.channels; ++k) sum += (a[k] - c.input_zero_point) * w[k];
      }
      expected.push_back(OracleOutput(sum, c.channels.multiplier[n], c.channels.shift[n], c.stage, n, shape.n));
    }
  }
  output.ExpectEquals(expected);
}

GemmCase RandomGemm(const GemmKernel& kernel, GemmShape shape, Values values, Random& random) {
  GemmCase c{};
  c.shape = shape;
  c.m = random.Between(1, kernel.mr);
  const int32_t blocks = (shape.n + kernel.nr - 1) / kernel.nr;
  c.n_begin = random.Between(0, 1) ? 0 : random.Between(0, blocks - 1) * kernel.nr;
  c.n_end = random.Between(0, 1) ? shape.n : std::min(shape.n, c.n_begin + kernel.nr * random.Between(1, 3));
  c.input_zero_point = values == Values::kAny ? random.Between(-128, 127) : random.Between(0, 1) ? 127 : -128;
  c.has_bias = random.Between(0, 3) != 0;
  c.stage = RandomStage(random);
  c.channels = RandomChannels(random, kernel.weights, shape.n, shape.taps * shape.channels);
  // Half of the cases keep to the symmetric range, which kernels may have another form for.
  const int32_t lowest = LowestOf(kernel.weights) + random.Between(0, 1);
  c.weights = random.Integers(size_t(shape.n) * shape.taps * shape.channels, lowest, HighestOf(kernel.weights), values);
  c.activations = random.Integers(size_t(c.m) * shape.taps * shape.channels, -128, 127, values);
  return c;
}

class Gemm : public testing::TestWithParam<const GemmKernel*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, Gemm, testing::ValuesIn(Runnable(GemmKernels())), NameOf<GemmKernel>);

TEST_P(Gemm, EveryNumberOfChannels) {
  Random random(1);
  for (int32_t channels = 1; channels <= 70; ++channels) {
    const GemmShape shape{random.Between(1, 40), random.Between(1, 4), channels};
    CheckGemm(*GetParam(), RandomGemm(*GetParam(), shape, Values::kAny, random), random);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Gemm, EveryNumberOfOutputsAndRows) {
  Random random(2);
  for (int32_t n = 1; n <= 70; ++n) {
    for (int32_t m = 1; m <= GetParam()->mr; ++m) {
      GemmCase c = RandomGemm(*GetParam(), {n, random.Between(1, 2), random.Between(1, 40)}, Values::kAny, random);
      c.activations = random.Integers(size_t(m) * c.shape.taps * c.shape.channels, -128, 127, Values::kAny);
      c.m = m;
      CheckGemm(*GetParam(), c, random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Gemm, EveryNumberOfTaps) {
  Random random(3);
  for (int32_t taps = 1; taps <= 25; ++taps) {
    for (int32_t repeat = 0; repeat < 6; ++repeat) {
      const GemmShape shape{random.Between(1, 24), taps, random.Between(1, 70)};
      CheckGemm(*GetParam(), RandomGemm(*GetParam(), shape, Values::kAny, random), random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Gemm, ExtremesOverflowNoPartialSum) {
  Random random(4);
  const WeightFormat format = GetParam()->weights;
  for (const int32_t channels : {8, 24, 31, 60, 64, 240, 256, 496, 2049}) {
    for (const int32_t weight : {LowestOf(format), HighestOf(format)}) {
      for (const int8_t activation : {-128, 127}) {
        GemmCase c = RandomGemm(*GetParam(), {9, channels < 100 ? 25 : 1, channels}, Values::kExtremes, random);
        // Three of four cases stay mixed in their signs.
        if (random.Between(0, 3) == 0 || channels == 2049) {
          c.weights.assign(c.weights.size(), static_cast<int8_t>(weight));
          c.activations.assign(c.activations.size(), activation);
        }
        const int32_t depth = c.shape.taps * channels;
        c.channels.shift.assign(c.shape.n,
                                -static_cast<int32_t>(std::log2(depth * 255.0 * -LowestOf(format) / 127)) - 1);
        CheckGemm(*GetParam(), c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// 16 times such a sum does not fit 32 bits.
TEST_P(Gemm, VeryDeepSums) {
  Random random(5);
  const WeightFormat format = GetParam()->weights;
  for (const int32_t weight : {LowestOf(format), HighestOf(format)}) {
    GemmCase c = RandomGemm(*GetParam(), {2, 1, 140003}, Values::kAny, random);
    c.weights.assign(c.weights.size(), static_cast<int8_t>(weight));
    c.activations.assign(c.activations.size(), -128);
    c.input_zero_point = 3;
    c.channels.shift = {-21, -20};
    CheckGemm(*GetParam(), c, random);
    GemmCase taps = RandomGemm(*GetParam(), {2, 8200, 17}, Values::kAny, random);
    taps.m = 1;  // every row has a fence of its own, and the system allows some 65,000
    taps.activations.resize(size_t(taps.shape.taps) * taps.shape.channels);
    taps.weights.assign(taps.weights.size(), static_cast<int8_t>(weight));
    taps.channels.shift = {-21, -20};
    CheckGemm(*GetParam(), taps, random);
    if (HasFatalFailure()) return;
  }
}

// -------------------------------------------------------------------------------------------------------------
// depthwise

struct DepthwiseCase {
  DepthwiseShape shape;
  int32_t pixels;
  int32_t input_zero_point;
  bool has_bias;
  OutputStage stage;
  Channels channels;
  std::vector<int8_t> weights;  // [taps][channels]
  std::vector<int8_t> image;    // rows of `channels` values
  std::vector<int32_t> rows;    // [pixels][taps], of the image
  PixelRow in_row = {};
};

void CheckDepthwise(const DepthwiseKernel& kernel, const DepthwiseCase& c, Random& random) {
  const DepthwiseShape& shape = c.shape;
  SCOPED_TRACE(testing::Message() << "taps " << shape.taps << " channels " << shape.channels << " pixels " << c.pixels
                                  << " input zero point " << c.input_zero_point << " rounding "
                                  << static_cast<int>(c.stage.rounding));
  const FencedWeights weights(c.weights, kernel.weights);
  const FencedRows<int8_t> image(c.image, shape.channels, random);
  const WeightSource source{weights.values(), c.has_bias ? c.channels.bias.data() : nullptr,
                            c.channels.multiplier.data(), c.channels.shift.data(), c.input_zero_point};
  const FencedPack packed(kernel, shape, source);

  std::vector<const int8_t*> rows;
  for (const int32_t row : c.rows) rows.push_back(image[row]);
  const int32_t stride = shape.channels + random.Between(0, 5);
  FencedOutput<int8_t> output(c.pixels, shape.channels, stride);
  kernel.run(shape, {c.pixels, rows.data(), packed.data(), output.data(), stride, c.stage, c.in_row});

  std::vector<int8_t> expected;
  for (int32_t p = 0; p < c.pixels; ++p) {
    for (int32_t n = 0; n < shape.channels; ++n) {
      int64_t sum = c.has_bias ? c.channels.bias[n] : 0;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int32_t a = c.image[size_t(c.rows[size_t(p) * shape.taps + tap]) * shape.channels + n];
        sum += (a - c.input_zero_point) * c.weights[size_t(tap) * shape.channels + n];
      }
      expected.push_back(OracleOutput(sum, c.channels.multiplier[n], c.channels.shift[n], c.stage, n, shape.channels));
    }
  }
  output.ExpectEquals(expected);
}

DepthwiseCase RandomDepthwise(const DepthwiseKernel& kernel, DepthwiseShape shape, int32_t pixels, Values values,
                              Random& random) {
  DepthwiseCase c{};
  c.shape = shape;
  c.pixels = pixels;
  c.input_zero_point = values == Values::kAny ? random.Between(-128, 127) : random.Between(0, 1) ? 127 : -128;
  c.has_bias = random.Between(0, 3) != 0;
  c.stage = RandomStage(random);
  c.channels = RandomChannels(random, kernel.weights, shape.channels, shape.taps);
  c.weights =
      random.Integers(size_t(shape.taps) * shape.channels, LowestOf(kernel.weights), HighestOf(kernel.weights), values);
  c.image = random.Integers(size_t(pixels) * shape.taps * shape.channels, -128, 127, values);
  c.rows.resize(size_t(pixels) * shape.taps);
  std::iota(c.rows.begin(), c.rows.end(), 0);
  return c;
}

class Depthwise : public testing::TestWithParam<const DepthwiseKernel*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, Depthwise, testing::ValuesIn(Runnable(DepthwiseKernels())), NameOf<DepthwiseKernel>);

TEST_P(Depthwise, EveryNumberOfChannels) {
  Random random(6);
  for (int32_t channels = 1; channels <= 70; ++channels) {
    for (const int32_t taps : {1, 9, random.Between(1, 25)}) {
      CheckDepthwise(*GetParam(),
                     RandomDepthwise(*GetParam(), {taps, channels}, random.Between(1, 5), Values::kAny, random),
                     random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Depthwise, EveryNumberOfTaps) {
  Random random(7);
  for (int32_t taps = 1; taps <= 70; ++taps) {
    for (const int32_t channels : {3, 8, 16, 33, random.Between(1, 130)}) {
      CheckDepthwise(*GetParam(),
                     RandomDepthwise(*GetParam(), {taps, channels}, random.Between(1, 4), Values::kAny, random),
                     random);
      if (HasFatalFailure()) return;
    }
  }
}

// Pixels that see the same rows as their neighbours, as they do in an image, padding included.
TEST_P(Depthwise, WindowsOverImages) {
  Random random(11);
  for (const int32_t side : {2, 3, 5, 6}) {
    for (const int32_t stride : {1, 2, 3}) {
      for (const int32_t channels : {5, 32, 40, 64, random.Between(65, 200)}) {
        const DepthwiseShape shape = {side * side, channels, side};
        const int32_t height = random.Between(1, 4), width = random.Between(3, 21), padding = random.Between(0, side);
        const int32_t out_height = (height + padding) / stride + 1, out_width = (width + padding) / stride + 1;
        DepthwiseCase c = RandomDepthwise(*GetParam(), shape, out_height * out_width, Values::kAny, random);
        c.image = random.Integers(size_t(height) * width * channels, -128, 127, Values::kAny);
        c.image.resize(c.image.size() + channels, static_cast<int8_t>(c.input_zero_point));  // the padding
        c.rows.clear();
        const int32_t first = random.Between(0, c.pixels - 1);
        c.pixels -= first;
        c.in_row = {first % out_width, out_width, stride};
        for (int32_t p = first; p < first + c.pixels; ++p) {
          for (int32_t tap = 0; tap < shape.taps; ++tap) {
            const int32_t y = p / out_width * stride - padding + tap / side;
            const int32_t x = p % out_width * stride - padding + tap % side;
            const bool inside = y >= 0 && y < height && x >= 0 && x < width;
            c.rows.push_back(inside ? y * width + x : height * width);
          }
        }
        CheckDepthwise(*GetParam(), c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Depthwise, ExtremesOverflowNoPartialSum) {
  Random random(8);
  const WeightFormat format = GetParam()->weights;
  for (int32_t taps = 1; taps <= 70; ++taps) {
    for (const int32_t weight : {LowestOf(format), HighestOf(format)}) {
      for (const int8_t activation : {-128, 127}) {
        DepthwiseCase c = RandomDepthwise(*GetParam(), {taps, random.Between(1, 60)}, 3, Values::kExtremes, random);
        c.weights.assign(c.weights.size(), static_cast<int8_t>(weight));
        c.image.assign(c.image.size(), activation);
        c.channels.shift.assign(c.shape.channels,
                                -static_cast<int32_t>(std::log2(taps * 255.0 * -LowestOf(format) / 127)) - 1);
        CheckDepthwise(*GetParam(), c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// ------------------------------------------------------------------------------------- output stage, through the
// kernels

// Sums that lie on and beside every boundary of the output stage, reached with weights of zero and the bias alone.
Channels EdgeChannels(int32_t n, int32_t shift, Random& random) {
  constexpr int32_t kEdges[] = {0, 1, -1, INT32_MAX, INT32_MIN, INT32_MIN + 1, 1 << 30, -(1 << 30)};
  Channels channels;
  for (int32_t i = 0; i < n; ++i) {
    const int32_t multiplier = i % 3 == 0 ? 1 << 30 : i % 3 == 1 ? INT32_MAX : random.Between(1 << 30, INT32_MAX);
    int32_t bias = i < 8 ? kEdges[i] : random.Between(INT32_MIN, INT32_MAX);
    if (i >= 12) {
      // The sum whose product is nearest to a half between two outputs, or a neighbour of it.
      const double half = random.Between(-150, 150) + 0.5;
      const double sum = half * std::ldexp(1.0, 31 - shift) / multiplier + random.Between(-1, 1);
      if (std::abs(sum) < 2147483000.0) bias = static_cast<int32_t>(std::lround(sum));
    }
    channels.bias.push_back(bias);
    channels.multiplier.push_back(multiplier);
    channels.shift.push_back(shift);
  }
  return channels;
}

TEST_P(Gemm, OutputStageOnEveryShiftAndEdge) {
  Random random(9);
  for (int32_t shift = -31; shift <= 30; ++shift) {
    for (const Rounding rounding : kRoundings) {
      GemmCase c = RandomGemm(*GetParam(), {61, 1, 3}, Values::kAny, random);
      c.has_bias = true;
      c.stage = {random.Between(-30, 30), -128, 127, rounding};
      c.channels = EdgeChannels(c.shape.n, shift, random);
      c.weights.assign(c.weights.size(), 0);
      CheckGemm(*GetParam(), c, random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Depthwise, OutputStageOnEveryShiftAndEdge) {
  Random random(10);
  for (int32_t shift = -31; shift <= 30; ++shift) {
    for (const Rounding rounding : kRoundings) {
      for (const int32_t channels : {5, 13, 29, 61}) {
        DepthwiseCase c = RandomDepthwise(*GetParam(), {2, channels}, 2, Values::kAny, random);
        c.has_bias = true;
        c.stage = {random.Between(-30, 30), -128, 127, rounding};
        c.channels = EdgeChannels(channels, shift, random);
        c.weights.assign(c.weights.size(), 0);
        CheckDepthwise(*GetParam(), c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace tfq::int4
