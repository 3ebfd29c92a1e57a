// Every kernel for 16-bit activations that this CPU runs, against exact sums and roundings written a second time, bit
// for bit, in fenced memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/test/kernel_memory.h"
#include "delegates/int4/test/oracle.h"

namespace tfq::int4 {
namespace {

constexpr WideRounding kRoundings[] = {WideRounding::kReduced, WideRounding::kReal, WideRounding::kDoubleUpward,
                                       WideRounding::kSingle};

std::vector<int16_t> Activations(size_t count, Values values, Random& random) {
  std::vector<int16_t> activations(count);
  for (int16_t& value : activations) {
    value = static_cast<int16_t>(values == Values::kAny      ? random.Between(-32768, 32767)
                                 : random.Between(0, 1) == 0 ? -32768
                                                             : 32767);
  }
  return activations;
}

// Factors that bring a sum of this depth to the size of an output.
std::vector<WideChannel> RandomChannels(size_t n, const WeightFormat& format, int32_t depth, Random& random) {
  std::vector<WideChannel> channels;
  for (size_t i = 0; i < n; ++i) {
    WideChannel channel = {};
    channel.bias = random.Between(-3000000, 3000000);
    channel.scale = random.Between(50, 300) / 100.0 / (HighestOf(format) * std::sqrt(depth));
    int exponent;
    channel.multiplier = static_cast<int32_t>(std::frexp(channel.scale, &exponent) * 2147483647.0);
    channel.shift = exponent;
    channels.push_back(channel);
  }
  return channels;
}

WideStage RandomStage(Random& random) {
  WideStage stage = {-32768, 32767, kRoundings[random.Between(0, 3)]};
  if (random.Between(0, 2) == 0) stage.min = 0;
  if (random.Between(0, 2) == 0) stage.max = random.Between(stage.min, 32767);
  return stage;
}

int16_t Expected(int64_t sum, const WideChannel& channel, const WideStage& stage) {
  int64_t value = 0;
  switch (stage.rounding) {
    case WideRounding::kReduced: {
      const int64_t reduced = std::min<int64_t>(RoundUpward(channel.multiplier, 16), 0x7fff);
      value = RoundUpward(sum * reduced, 15 - channel.shift);
      break;
    }
    case WideRounding::kReal:
      value = std::llround(static_cast<double>(sum) * channel.scale);
      break;
    case WideRounding::kDoubleUpward:
      value =
          OracleMultiply(static_cast<int32_t>(sum), channel.multiplier, channel.shift, Rounding::kDoubleUpward, 0, 1);
      break;
    case WideRounding::kSingle:
      value = OracleMultiply(static_cast<int32_t>(sum), channel.multiplier, channel.shift, Rounding::kSingle, 0, 1);
      break;
  }
  return static_cast<int16_t>(std::clamp<int64_t>(value, stage.min, stage.max));
}

struct GemmCase {
  GemmShape shape;
  int32_t m;
  int32_t n_begin;
  int32_t n_end;
  WideStage stage;
  std::vector<WideChannel> channels;
  std::vector<int8_t> weights;       // [n][taps][channels]
  std::vector<int16_t> activations;  // [taps][m][channels]
};

GemmCase RandomGemm(const WideGemmKernel& kernel, const GemmShape& shape, int32_t m, Values values, Random& random) {
  GemmCase c;
  c.shape = shape;
  c.m = m;
  const int32_t blocks = (shape.n + kernel.nr - 1) / kernel.nr;
  c.n_begin = random.Between(0, blocks - 1) * kernel.nr;
  c.n_end = random.Between(0, 1) == 0 ? shape.n : std::min(shape.n, c.n_begin + kernel.nr);
  c.stage = RandomStage(random);
  c.channels = RandomChannels(shape.n, kernel.weights, shape.taps * shape.channels, random);
  c.weights = random.Integers(size_t(shape.n) * shape.taps * shape.channels, LowestOf(kernel.weights),
                              HighestOf(kernel.weights), values);
  c.activations = Activations(size_t(m) * shape.taps * shape.channels, values, random);
  return c;
}

void CheckGemm(const WideGemmKernel& kernel, const GemmCase& c, Random& random) {
  const GemmShape& shape = c.shape;
  SCOPED_TRACE(testing::Message() << "n " << shape.n << " taps " << shape.taps << " channels " << shape.channels
                                  << " m " << c.m << " columns " << c.n_begin << ".." << c.n_end << " rounding "
                                  << static_cast<int>(c.stage.rounding));
  const FencedWeights weights(c.weights, kernel.weights);
  const FencedRows<int16_t> activations(c.activations, shape.channels, random);
  const FencedPack packed(kernel, shape, WideWeights{weights.values(), c.channels.data()});
  std::vector<const int16_t*> rows;
  for (int32_t tap = 0; tap < shape.taps; ++tap) {
    for (int32_t m = 0; m < kernel.mr; ++m) rows.push_back(activations[tap * c.m + (m < c.m ? m : 0)]);
  }
  const int32_t width = c.n_end - c.n_begin;
  const int32_t stride = width + random.Between(0, 5);
  FencedOutput<int16_t> output(c.m, width, stride);
  kernel.run(shape, {c.m, c.n_begin, c.n_end, rows.data(), packed.data(), output.data(), stride, c.stage});

  std::vector<int16_t> expected;
  for (int32_t m = 0; m < c.m; ++m) {
    for (int32_t n = c.n_begin; n < c.n_end; ++n) {
      int64_t sum = c.channels[n].bias;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int16_t* a = c.activations.data() + (size_t(tap) * c.m + m) * shape.channels;
        const int8_t* w = c.weights.data() + (size_t(n) * shape.taps + tap) * shape.channels;
        for (int32_t k = 0; k < shape.channels; ++k) sum += a[k] * w[k];
      }
      expected.push_back(Expected(sum, c.channels[n], c.stage));
    }
  }
  output.ExpectEquals(expected);
}

class WideGemm : public testing::TestWithParam<const WideGemmKernel*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, WideGemm, testing::ValuesIn(Runnable(WideGemmKernels())), NameOf<WideGemmKernel>);

TEST_P(WideGemm, EveryNumberOfChannelsOutputsAndRows) {
  Random random(1);
  for (int32_t size = 1; size <= 70; ++size) {
    for (int32_t m = 1; m <= GetParam()->mr; ++m) {
      const GemmShape by_channels = {random.Between(1, 40), random.Between(1, 4), size};
      CheckGemm(*GetParam(), RandomGemm(*GetParam(), by_channels, m, Values::kAny, random), random);
      const GemmShape by_outputs = {size, random.Between(1, 25), random.Between(1, 20)};
      CheckGemm(*GetParam(), RandomGemm(*GetParam(), by_outputs, m, Values::kAny, random), random);
      if (HasFatalFailure()) return;
    }
  }
}

// 32 bits hold 255 pairs of products of 8-bit weights, 4,095 of 4-bit ones.
TEST_P(WideGemm, SumsBeyond32Bits) {
  Random random(2);
  const WeightFormat format = GetParam()->weights;
  for (const GemmShape& shape : {GemmShape{3, 1, 509}, GemmShape{3, 1, 510}, GemmShape{3, 1, 511}, GemmShape{3, 3, 511},
                                 GemmShape{3, 1, 8190}, GemmShape{3, 5, 8193}}) {
    for (const int32_t weight : {LowestOf(format), HighestOf(format)}) {
      for (const int16_t activation : {-32768, 32767}) {
        GemmCase c = RandomGemm(*GetParam(), shape, 2, Values::kExtremes, random);
        c.weights.assign(c.weights.size(), static_cast<int8_t>(weight));
        c.activations.assign(c.activations.size(), activation);
        const double scale = 20000.0 / (32768.0 * HighestOf(format) * shape.taps * shape.channels);
        int exponent;
        const int32_t multiplier = static_cast<int32_t>(std::frexp(scale, &exponent) * 2147483647.0);
        for (WideChannel& channel : c.channels) {
          channel.scale = scale;
          channel.multiplier = multiplier;
          channel.shift = exponent;
        }
        c.stage = {-32768, 32767, kRoundings[random.Between(0, 1)]};
        CheckGemm(*GetParam(), c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Weights of zero: the bias alone lies on and beside what is halfway between two outputs.
TEST_P(WideGemm, StageOnEveryShiftAndTie) {
  Random random(3);
  for (int32_t shift = -31; shift <= 7; ++shift) {
    for (const WideRounding rounding : kRoundings) {
      GemmCase c = RandomGemm(*GetParam(), {67, 1, 3}, 1, Values::kAny, random);
      c.weights.assign(c.weights.size(), 0);
      c.stage = {-32768, 32767, rounding};
      for (size_t i = 0; i < c.channels.size(); ++i) {
        WideChannel& channel = c.channels[i];
        channel.multiplier = i % 3 == 0 ? 1 << 30 : i % 3 == 1 ? INT32_MAX : random.Between(1 << 30, INT32_MAX);
        channel.shift = shift;
        channel.scale = std::ldexp(channel.multiplier, shift - 31);
        channel.bias =
            static_cast<int64_t>((random.Between(-30000, 30000) + 0.5) / channel.scale) + random.Between(-1, 1);
      }
      CheckGemm(*GetParam(), c, random);
      if (HasFatalFailure()) return;
    }
  }
}

struct DepthwiseCase {
  DepthwiseShape shape;
  int32_t pixels;
  WideStage stage;
  std::vector<WideChannel> channels;
  std::vector<int8_t> weights;       // [taps][channels]
  std::vector<int16_t> activations;  // [pixels][taps][channels]
};

DepthwiseCase RandomDepthwise(const WideDepthwiseKernel& kernel, const DepthwiseShape& shape, Values values,
                              Random& random) {
  DepthwiseCase c;
  c.shape = shape;
  c.pixels = random.Between(1, 5);
  c.stage = RandomStage(random);
  c.channels = RandomChannels(shape.channels, kernel.weights, shape.taps, random);
  c.weights =
      random.Integers(size_t(shape.taps) * shape.channels, LowestOf(kernel.weights), HighestOf(kernel.weights), values);
  c.activations = Activations(size_t(c.pixels) * shape.taps * shape.channels, values, random);
  return c;
}

void CheckDepthwise(const WideDepthwiseKernel& kernel, const DepthwiseCase& c, Random& random) {
  const DepthwiseShape& shape = c.shape;
  SCOPED_TRACE(testing::Message() << "taps " << shape.taps << " channels " << shape.channels << " pixels " << c.pixels
                                  << " rounding " << static_cast<int>(c.stage.rounding));
  const FencedWeights weights(c.weights, kernel.weights);
  const FencedRows<int16_t> activations(c.activations, shape.channels, random);
  const FencedPack packed(kernel, shape, WideWeights{weights.values(), c.channels.data()});
  std::vector<const int16_t*> rows;
  for (int32_t row = 0; row < c.pixels * shape.taps; ++row) rows.push_back(activations[row]);
  const int32_t stride = shape.channels + random.Between(0, 5);
  FencedOutput<int16_t> output(c.pixels, shape.channels, stride);
  kernel.run(shape, {c.pixels, rows.data(), packed.data(), output.data(), stride, c.stage});

  std::vector<int16_t> expected;
  for (int32_t p = 0; p < c.pixels; ++p) {
    for (int32_t n = 0; n < shape.channels; ++n) {
      int64_t sum = c.channels[n].bias;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        sum += c.activations[(size_t(p) * shape.taps + tap) * shape.channels + n] *
               c.weights[size_t(tap) * shape.channels + n];
      }
      expected.push_back(Expected(sum, c.channels[n], c.stage));
    }
  }
  output.ExpectEquals(expected);
}

class WideDepthwise : public testing::TestWithParam<const WideDepthwiseKernel*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, WideDepthwise, testing::ValuesIn(Runnable(WideDepthwiseKernels())),
                         NameOf<WideDepthwiseKernel>);

TEST_P(WideDepthwise, EveryNumberOfChannelsAndTaps) {
  Random random(4);
  for (int32_t size = 1; size <= 70; ++size) {
    for (const DepthwiseShape& shape :
         {DepthwiseShape{9, size}, DepthwiseShape{size, random.Between(1, 40)}, DepthwiseShape{size, 16}}) {
      CheckDepthwise(*GetParam(), RandomDepthwise(*GetParam(), shape, Values::kAny, random), random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(WideDepthwise, SumsBeyond32Bits) {
  Random random(5);
  const WeightFormat format = GetParam()->weights;
  for (const int32_t taps : {509, 510, 511, 1025}) {
    for (const int32_t weight : {LowestOf(format), HighestOf(format)}) {
      for (const int16_t activation : {-32768, 32767}) {
        DepthwiseCase c = RandomDepthwise(*GetParam(), {taps, 11}, Values::kExtremes, random);
        c.weights.assign(c.weights.size(), static_cast<int8_t>(weight));
        c.activations.assign(c.activations.size(), activation);
        c.stage = {-32768, 32767, WideRounding::kReal};
        for (WideChannel& channel : c.channels) channel.scale = 20000.0 / (32768.0 * HighestOf(format) * taps);
        CheckDepthwise(*GetParam(), c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace tfq::int4
