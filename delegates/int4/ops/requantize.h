// From scales to the integer output stage: multipliers, shifts and activation ranges as TFLite computes them.
#ifndef TFQ_DELEGATES_INT4_OPS_REQUANTIZE_H_
#define TFQ_DELEGATES_INT4_OPS_REQUANTIZE_H_

#include <cstdint>
#include <vector>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/options.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// real = multiplier * 2^(shift - 31). False for a value that is negative, not finite or too large for a shift of 30;
// one that is too small becomes 0.
bool QuantizeMultiplier(double real, int32_t* multiplier, int32_t* shift);

// Scale of the 32-bit sums of output channel `channel` over the output's scale. A dense layer with one scale multiplies
// input and weight scale in float32, all others in double, as the built-in kernels do.
double EffectiveScale(const NodeView& view, int32_t channel);

// Multiplier and shift of every output channel.
struct ChannelScales {
  std::vector<int32_t> multiplier;
  std::vector<int32_t> shift;
};
ChannelScales MakeChannelScales(const NodeView& view);

// 1 / sqrt(scale of the input) over the scale of the output.
double RsqrtFactor(const NodeView& view);

// Zero point and clamped range of the output.
OutputStage MakeOutputStage(const NodeView& view, Rounding rounding);

// Of layers between 16-bit activations: how the kernel that `match` names rounds, what it needs of each output channel,
// and the range of the output.
WideRounding WideRoundingOf(const NodeView& view);
std::vector<WideChannel> MakeWideChannels(const NodeView& view);
WideStage MakeWideStage(const NodeView& view);

// Range of the fused activation.
FloatStage MakeFloatStage(const NodeView& view);

// How the kernels that `match` names round in a matrix product, which is what dense layers and convolutions of one
// group are to the runtime: `rows` rows of `depth` values times `columns` output channels, of weights that are `bits`
// wide.
Rounding RoundingOfProduct(Match match, OpKind kind, int32_t bits, int64_t rows, int32_t columns, int64_t depth);
Rounding RoundingOfMatmul(Match match, int32_t second_zero_point);
Rounding RoundingOfGroupedConv(Match match, int32_t bits);
Rounding RoundingOfDepthwise(Match match, int32_t bits);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_REQUANTIZE_H_
