#include "delegates/int4/ops/requantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "delegates/int4/ops/runtime_kernels.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMinShift = -31;
constexpr int32_t kMaxShift = 30;

struct ActivationBounds {
  abi::Activation activation;
  bool has_low;
  float low;
  bool has_high;
  float high;
};

constexpr ActivationBounds kActivationBounds[] = {
    {abi::Activation::kNone, false, 0, false, 0},
    {abi::Activation::kRelu, true, 0, false, 0},
    {abi::Activation::kRelu6, true, 0, true, 6},
    {abi::Activation::kReluN1To1, true, -1, true, 1},
};

// The integers that a type has.
struct IntegerRange {
  int32_t min;
  int32_t max;
};
constexpr IntegerRange kInt8 = {INT8_MIN, INT8_MAX};
constexpr IntegerRange kInt16 = {INT16_MIN, INT16_MAX};

// Zero point plus the bound in output steps, saturated. Built-in kernels round the bound, halves away from zero;
// XNNPACK the sum, halves to even.
int32_t QuantizeBound(float bound, const NodeView& view, const IntegerRange& range) {
  const abi::QuantizationParams& params = view.output()->params;
  if (XnnpackRuns(view)) {
    const float zero_point = static_cast<float>(params.zero_point);
    return static_cast<int32_t>(std::lrint(std::clamp<float>(bound / params.scale + zero_point, INT8_MIN, INT8_MAX)));
  }
  const double value = params.zero_point + static_cast<double>(std::round(bound / params.scale));
  return static_cast<int32_t>(std::clamp<double>(value, range.min, range.max));
}

// The range of the fused activation.
IntegerRange ActivationRange(const NodeView& view, const IntegerRange& range) {
  IntegerRange activation = range;
  for (const ActivationBounds& bounds : kActivationBounds) {
    if (bounds.activation != view.activation) continue;
    if (bounds.has_low) activation.min = QuantizeBound(bounds.low, view, range);
    if (bounds.has_high) activation.max = QuantizeBound(bounds.high, view, range);
  }
  return activation;
}

// Measured, not documented by the runtimes: their kernels round as each architecture's instructions do.
struct RoundingRule {
  Rounding matrix;
  Rounding vector;  // of one row, in the runtime's kernel for matrix times vector
  Rounding depthwise;
};

// Indexed by Match.
constexpr RoundingRule kRoundingRules[] = {
#if defined(__aarch64__)
    {Rounding::kSingle, Rounding::kDoubleUpward, Rounding::kDoubleByEights},  // litert
    {Rounding::kDouble, Rounding::kDoubleUpward, Rounding::kDoubleByEights},  // tflite_2.14
    {Rounding::kSingle, Rounding::kDoubleUpward, Rounding::kDoubleByEights},  // xnnpack
#else
    {Rounding::kDoubleUpward, Rounding::kDoubleUpward, Rounding::kDoubleByEights},  // litert
    {Rounding::kDoubleUpward, Rounding::kDoubleUpward, Rounding::kDouble},          // tflite_2.14
    {Rounding::kDoubleUpward, Rounding::kDoubleUpward, Rounding::kDoubleByEights},  // xnnpack
#endif
};

// Of a dense layer between 16-bit activations whose bias has 32 bits; indexed by Match.
constexpr WideRounding kWideDenseRoundings[] = {
#if defined(__aarch64__)
    WideRounding::kSingle, WideRounding::kDoubleUpward, WideRounding::kSingle
#else
    WideRounding::kDoubleUpward, WideRounding::kDoubleUpward, WideRounding::kDoubleUpward
#endif
};

const RoundingRule& RuleOf(Match match) { return kRoundingRules[static_cast<int32_t>(match)]; }

// XNNPACK takes INT8 layers of every kind.
bool XnnpackTakesInt8(Match match, int32_t bits) { return match == Match::kXnnpack && bits == 8; }

// The smallest product that the runtime's kernel for matrix times vector takes.
constexpr int32_t kMinVectorColumns = 4;
constexpr int64_t kMinVectorDepth = 8;

}  // namespace

bool QuantizeMultiplier(double real, int32_t* multiplier, int32_t* shift) {
  *multiplier = 0;
  *shift = 0;
  if (!std::isfinite(real) || real < 0) return false;
  if (real == 0) return true;
  int exponent;
  int64_t fixed = std::llround(std::frexp(real, &exponent) * static_cast<double>(int64_t{1} << 31));
  if (fixed == int64_t{1} << 31) {
    fixed /= 2;
    ++exponent;
  }
  if (exponent < kMinShift) return true;
  if (exponent > kMaxShift) return false;
  *multiplier = static_cast<int32_t>(fixed);
  *shift = exponent;
  return true;
}

double EffectiveScale(const NodeView& view, int32_t channel) {
  const abi::FloatArray& scales = *view.weight_quantization().scale;
  const float input = view.input()->params.scale;
  const float weight = scales.data[scales.size == 1 ? 0 : channel];
  const bool float_product = view.kind == OpKind::kDense && scales.size == 1;
  const double product = float_product ? static_cast<double>(input * weight) : static_cast<double>(input) * weight;
  return product / static_cast<double>(view.output()->params.scale);
}

ChannelScales MakeChannelScales(const NodeView& view) {
  const size_t channels = static_cast<size_t>(view.out_channels());
  ChannelScales scales{std::vector<int32_t>(channels), std::vector<int32_t>(channels)};
  for (size_t i = 0; i < channels; ++i) {
    QuantizeMultiplier(EffectiveScale(view, static_cast<int32_t>(i)), &scales.multiplier[i], &scales.shift[i]);
  }
  return scales;
}

double RsqrtFactor(const NodeView& view) {
  return 1.0 / static_cast<double>(std::sqrt(view.input()->params.scale) * view.output()->params.scale);
}

OutputStage MakeOutputStage(const NodeView& view, Rounding rounding) {
  const IntegerRange range = ActivationRange(view, kInt8);
  return {view.output()->params.zero_point, range.min, range.max, rounding};
}

// Dense layers alone have a vector kernel, which takes a 32-bit bias or none; with a 64-bit bias their reference kernel
// multiplies by the real factor, in 2.14 by the integer that convolutions use.
WideRounding WideRoundingOf(const NodeView& view) {
  if (view.kind != OpKind::kDense) return WideRounding::kReduced;
  if (view.bias() == nullptr || view.bias()->type == abi::Type::kInt32) {
    return kWideDenseRoundings[static_cast<int32_t>(view.match)];
  }
  return view.match == Match::kTfLite214 ? WideRounding::kReduced : WideRounding::kReal;
}

std::vector<WideChannel> MakeWideChannels(const NodeView& view) {
  const abi::FloatArray& scales = *view.weight_quantization().scale;
  const bool long_bias = view.bias() != nullptr && view.bias()->type == abi::Type::kInt64;
  std::vector<WideChannel> channels(static_cast<size_t>(view.out_channels()));
  for (size_t i = 0; i < channels.size(); ++i) {
    WideChannel& channel = channels[i];
    const float weight = scales.data[scales.size == 1 ? 0 : i];
    channel.scale = static_cast<double>(view.input()->params.scale) * static_cast<double>(weight) /
                    static_cast<double>(view.output()->params.scale);
    QuantizeMultiplier(EffectiveScale(view, static_cast<int32_t>(i)), &channel.multiplier, &channel.shift);
    if (view.bias() == nullptr) {
      channel.bias = 0;
    } else {
      channel.bias = long_bias ? static_cast<const int64_t*>(view.bias()->data)[i]
                               : static_cast<const int32_t*>(view.bias()->data)[i];
    }
  }
  return channels;
}

WideStage MakeWideStage(const NodeView& view) {
  const IntegerRange range = ActivationRange(view, kInt16);
  return {range.min, range.max, WideRoundingOf(view)};
}

FloatStage MakeFloatStage(const NodeView& view) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  FloatStage stage{-kInfinity, kInfinity};
  for (const ActivationBounds& bounds : kActivationBounds) {
    if (bounds.activation != view.activation) continue;
    if (bounds.has_low) stage.min = bounds.low;
    if (bounds.has_high) stage.max = bounds.high;
  }
  return stage;
}

Rounding RoundingOfProduct(Match match, OpKind kind, int32_t bits, int64_t rows, int32_t columns, int64_t depth) {
  if (XnnpackTakesInt8(match, bits)) return Rounding::kSingle;
  // XNNPACK takes INT4 dense layers whose rows fill whole bytes.
  if (match == Match::kXnnpack && kind == OpKind::kDense && depth % 2 == 0) return Rounding::kSingle;
  const bool vector = rows == 1 && columns >= kMinVectorColumns && depth >= kMinVectorDepth;
  return vector ? RuleOf(match).vector : RuleOf(match).matrix;
}

// XNNPACK takes no second factor with a zero point; the runtime's reference kernel runs those.
Rounding RoundingOfMatmul(Match match, int32_t second_zero_point) {
  if (match == Match::kTfLite214) return RuleOf(match).matrix;
  return match == Match::kXnnpack && second_zero_point == 0 ? Rounding::kSingle : Rounding::kDouble;
}

// The runtime's reference kernel runs them, unless XNNPACK does.
Rounding RoundingOfGroupedConv(Match match, int32_t bits) {
  return XnnpackTakesInt8(match, bits) ? Rounding::kSingle : Rounding::kDouble;
}

Rounding RoundingOfDepthwise(Match match, int32_t bits) {
  return XnnpackTakesInt8(match, bits) ? Rounding::kSingle : RuleOf(match).depthwise;
}

}  // namespace tfq::int4
