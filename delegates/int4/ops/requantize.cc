#include "delegates/int4/ops/requantize.h"

#include <algorithm>
#include <cmath>

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

// Zero point plus the bound in output steps, halves away from zero, saturated to int8.
int32_t QuantizeBound(float bound, const abi::QuantizationParams& params) {
  const double value = params.zero_point + static_cast<double>(std::round(bound / params.scale));
  return static_cast<int32_t>(std::clamp<double>(value, INT8_MIN, INT8_MAX));
}

constexpr Rounding kUp = Rounding::kDoubleUpward;
constexpr Rounding kAway = Rounding::kDouble;

// Indexed by Match. Grouped convolutions run in the runtime's reference kernel everywhere.
constexpr RoundingRule kRoundingRules[] = {
    {kUp, kAway, Rounding::kDoubleByEights, kUp, kUp},                // litert
    {kUp, kAway, kAway, kUp, kUp},                                    // tflite_2.14
    {kUp, kAway, Rounding::kDoubleByEights, Rounding::kSingle, kUp},  // xnnpack
};

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
  const float input = view.input->params.scale;
  const float weight = scales.data[scales.size == 1 ? 0 : channel];
  const bool float_product = view.kind == OpKind::kDense && scales.size == 1;
  const double product = float_product ? static_cast<double>(input * weight) : static_cast<double>(input) * weight;
  return product / static_cast<double>(view.output->params.scale);
}

ChannelScales MakeChannelScales(const NodeView& view) {
  const size_t channels = static_cast<size_t>(view.out_channels());
  ChannelScales scales{std::vector<int32_t>(channels), std::vector<int32_t>(channels)};
  for (size_t i = 0; i < channels; ++i) {
    QuantizeMultiplier(EffectiveScale(view, static_cast<int32_t>(i)), &scales.multiplier[i], &scales.shift[i]);
  }
  return scales;
}

OutputStage MakeOutputStage(const NodeView& view, Rounding rounding) {
  OutputStage stage{view.output->params.zero_point, INT8_MIN, INT8_MAX, rounding};
  for (const ActivationBounds& bounds : kActivationBounds) {
    if (bounds.activation != view.activation) continue;
    if (bounds.has_low) stage.min = QuantizeBound(bounds.low, view.output->params);
    if (bounds.has_high) stage.max = QuantizeBound(bounds.high, view.output->params);
  }
  return stage;
}

const RoundingRule& RoundingOf(Match match) { return kRoundingRules[static_cast<int32_t>(match)]; }

}  // namespace tfq::int4
