#include "delegates/int4/checks.h"

#include <cmath>

#include "delegates/int4/abi/names.h"
#include "delegates/int4/describe.h"
#include "delegates/int4/ops/requantize.h"

namespace tfq::int4 {
namespace {

using abi::Type;

// Each check looks at one thing and returns why the node is declined, or nothing. Later ones rely on earlier ones.

std::string CheckHasWeights(const NodeView& view) {
  if (view.weights() == nullptr) return "it has no weights";
  return "";
}

std::string CheckActivationTypes(const NodeView& view) {
  const abi::Tensor& input = *view.input();
  const abi::Tensor& output = *view.output();
  if (input.type != Type::kInt8 && input.type != Type::kInt16 && input.type != Type::kFloat32) {
    return "input " + Quoted(input) + " is " + abi::TypeName(input.type) + ", not INT8, INT16 or FLOAT32";
  }
  if (output.type != input.type) {
    return "output " + Quoted(output) + " is " + abi::TypeName(output.type) + ", not " + abi::TypeName(input.type) +
           " like the input";
  }
  return "";
}

struct TakenWeights {
  Arithmetic arithmetic;
  OpKind kind;
  Type type;
  bool blocks;  // with a scale for each block of inputs as well
};

constexpr TakenWeights kTakenWeights[] = {
    {Arithmetic::kStatic, OpKind::kConv, Type::kInt4, false},
    {Arithmetic::kStatic, OpKind::kConv, Type::kInt8, false},
    {Arithmetic::kStatic, OpKind::kDepthwise, Type::kInt4, false},
    {Arithmetic::kStatic, OpKind::kDepthwise, Type::kInt8, false},
    {Arithmetic::kStatic, OpKind::kDense, Type::kInt4, false},
    {Arithmetic::kStatic, OpKind::kDense, Type::kInt8, false},
    {Arithmetic::kWide, OpKind::kConv, Type::kInt4, false},
    {Arithmetic::kWide, OpKind::kConv, Type::kInt8, false},
    {Arithmetic::kWide, OpKind::kDepthwise, Type::kInt4, false},
    {Arithmetic::kWide, OpKind::kDepthwise, Type::kInt8, false},
    {Arithmetic::kWide, OpKind::kDense, Type::kInt4, false},
    {Arithmetic::kWide, OpKind::kDense, Type::kInt8, false},
    {Arithmetic::kDynamic, OpKind::kConv, Type::kInt4, false},
    {Arithmetic::kDynamic, OpKind::kDense, Type::kInt4, true},
    {Arithmetic::kWeightOnly, OpKind::kDense, Type::kInt4, true},
    {Arithmetic::kWeightOnly, OpKind::kDense, Type::kInt8, false},
};

const TakenWeights* FindTakenWeights(const NodeView& view) {
  for (const TakenWeights& taken : kTakenWeights) {
    if (taken.arithmetic == view.arithmetic() && taken.kind == view.kind && taken.type == view.weights()->type) {
      return &taken;
    }
  }
  return nullptr;
}

std::string CheckWeightType(const NodeView& view) {
  if (FindTakenWeights(view) != nullptr) return "";
  std::string types;
  for (const TakenWeights& taken : kTakenWeights) {
    if (taken.arithmetic != view.arithmetic() || taken.kind != view.kind) continue;
    types += (types.empty() ? "" : " or ") + abi::TypeName(taken.type);
  }
  const std::string activations = abi::TypeName(view.input()->type) + " activations";
  if (types.empty()) return "it has " + activations + ", not INT8";
  return "weights " + Quoted(*view.weights()) + " are " + abi::TypeName(view.weights()->type) + ", not " + types +
         (view.arithmetic() == Arithmetic::kStatic ? "" : ", for " + activations);
}

std::string CheckWeightsConstant(const NodeView& view) {
  if (view.weights()->allocation_type == abi::AllocationType::kConstant && view.weights()->data != nullptr) return "";
  return "weights " + Quoted(*view.weights()) + " are not a constant of the file";
}

std::string CheckWeightLayout(const NodeView& view) {
  if (view.weights()->sparsity != nullptr) return "weights " + Quoted(*view.weights()) + " are sparse";
  if (view.weights_format != 0) return "weights are shuffled (format " + Number(view.weights_format) + ")";
  return "";
}

std::string CheckRanks(const NodeView& view) {
  const bool dense = view.kind == OpKind::kDense;
  const int32_t wanted = dense ? 2 : 4;
  if (Rank(*view.weights()) != wanted) {
    return "weights " + Quoted(*view.weights()) + " have rank " + Number(Rank(*view.weights())) + ", not " +
           Number(wanted);
  }
  if (dense ? Rank(*view.input()) < 1 : Rank(*view.input()) != 4) {
    return "input " + Quoted(*view.input()) + " has rank " + Number(Rank(*view.input())) +
           (dense ? ", a dense layer needs one or more" : ", not 4");
  }
  return "";
}

std::string CheckWeightShape(const NodeView& view) {
  int64_t elements = 1;
  for (int32_t axis = 0; axis < Rank(*view.weights()); ++axis) {
    const int32_t size = Dim(*view.weights(), axis);
    if (size < 1) return "weights " + Quoted(*view.weights()) + " have a dimension of " + Number(size);
    elements *= size;
    if (elements > INT32_MAX) return "weights " + Quoted(*view.weights()) + " have more than 2^31 values";
  }
  const int64_t needed = (elements * view.weight_bits() + 7) / 8;
  if (static_cast<int64_t>(view.weights()->bytes) < needed) {
    return "weights " + Quoted(*view.weights()) + " have " + Number(static_cast<int64_t>(view.weights()->bytes)) +
           " bytes, " + Number(needed) + " needed";
  }
  if (view.kind == OpKind::kDepthwise && Dim(*view.weights(), 0) != 1) {
    return "depthwise weights " + Quoted(*view.weights()) + " have a first dimension of " +
           Number(Dim(*view.weights(), 0));
  }
  return "";
}

std::string CheckChannels(const NodeView& view) {
  const int32_t in = Dim(*view.input(), Rank(*view.input()) - 1);
  const int32_t out = view.out_channels();
  switch (view.kind) {
    case OpKind::kConv: {
      const int32_t depth = Dim(*view.weights(), 3);
      if (in < depth || in % depth != 0) {
        return "input has " + Number(in) + " channels, weights " + Number(depth) + ": not whole groups";
      }
      if (in != depth && view.input()->type == Type::kFloat32) {
        return Number(in / depth) + " groups, taken with integer activations alone";
      }
      if (out % (in / depth) != 0) {
        return Number(out) + " output channels do not divide into " + Number(in / depth) + " groups";
      }
      return "";
    }
    case OpKind::kDepthwise:
      if (in < 1 || out % in != 0) {
        return Number(out) + " output channels are no multiple of " + Number(in) + " input channels";
      }
      return "";
    case OpKind::kDense: {
      const int32_t depth = Dim(*view.weights(), 1);
      if (view.keep_num_dims && in != depth) {
        return "input has " + Number(in) + " features, weights " + Number(depth);
      }
      // The runtime leaves out what is beside whole rows.
      int64_t rest = 1;  // of the number of values
      for (int32_t i = 0; i < Rank(*view.input()); ++i) rest = rest * Dim(*view.input(), i) % depth;
      if (rest != 0) return "input is no whole number of rows of " + Number(depth) + " features";
      return "";
    }
    default:
      return "";
  }
}

constexpr int32_t kSmallestBlock = 32;
constexpr int32_t kLargestBlock = 256;

std::string CheckWeightBlocks(const NodeView& view) {
  const std::string name = "weights " + Quoted(*view.weights());
  if (view.weights()->quantization.params == nullptr) return name + " carry no scale";
  const abi::BlockwiseQuantization& blocks = view.weight_blocks();
  const int32_t size = blocks.block_size;
  const std::string quantized = name + " are quantized in blocks of " + Number(size);
  if (!FindTakenWeights(view)->blocks) return quantized + ", taken of dense layers with floating-point activations";
  if (size < kSmallestBlock || size > kLargestBlock || size % kSmallestBlock != 0) {
    return quantized + ", not a multiple of 32 up to 256";
  }
  const int32_t depth = Dim(*view.weights(), 1);
  if (depth % size != 0) return quantized + ", which do not divide " + Number(depth) + " inputs";
  if (blocks.quantized_dimension != 0 && blocks.quantized_dimension != 1) {
    return quantized + " along axis " + Number(blocks.quantized_dimension);
  }
  if (blocks.zero_point_tensor >= 0) return quantized + " with zero points";
  const abi::Tensor* scales = view.block_scales;
  if (scales == nullptr || scales->allocation_type != abi::AllocationType::kConstant || scales->data == nullptr) {
    return quantized + ", whose scales are not a constant of the file";
  }
  if (scales->type != Type::kFloat16) {
    return quantized + ", whose scales are " + abi::TypeName(scales->type) + ", not FLOAT16";
  }
  const int64_t count = int64_t{view.out_channels()} * (depth / size);
  if (static_cast<int64_t>(scales->bytes) != count * 2) {
    return quantized + ", with " + Number(static_cast<int64_t>(scales->bytes) / 2) + " scales, not " + Number(count);
  }
  return "";
}

std::string CheckWeightQuantization(const NodeView& view) {
  const abi::Quantization& quantization = view.weights()->quantization;
  const std::string name = "weights " + Quoted(*view.weights());
  switch (quantization.type) {
    case abi::QuantizationType::kAffine:
      break;
    case abi::QuantizationType::kBlockwise:
      return CheckWeightBlocks(view);
    case abi::QuantizationType::kMultiAxis:
      return name + " are quantized along several axes";
    default:
      return name + " carry no scales that this runtime knows (blockwise ones arrive so in 2.14)";
  }
  if (quantization.params == nullptr || view.weight_quantization().scale == nullptr) return name + " carry no scale";
  const abi::AffineQuantization& affine = view.weight_quantization();
  const int32_t scales = affine.scale->size;
  if (scales != 1 && scales != view.out_channels()) {
    return name + " have " + Number(scales) + " scales for " + Number(view.out_channels()) + " output channels";
  }
  if (scales > 1 && affine.quantized_dimension != view.channel_axis()) {
    return name + " are quantized along axis " + Number(affine.quantized_dimension) + ", not along axis " +
           Number(view.channel_axis());
  }
  for (int32_t i = 0; affine.zero_point != nullptr && i < affine.zero_point->size; ++i) {
    if (affine.zero_point->data[i] != 0) {
      return name + " have a zero point of " + Number(affine.zero_point->data[i]) + ", not 0";
    }
  }
  return "";
}

std::string CheckActivationQuantization(const NodeView& view) {
  if (view.input()->type == Type::kFloat32) return "";
  const bool wide = view.arithmetic() == Arithmetic::kWide;
  for (const abi::Tensor* tensor : {view.input(), view.output()}) {
    const std::string name = (tensor == view.input() ? "input " : "output ") + Quoted(*tensor);
    const auto* affine = static_cast<const abi::AffineQuantization*>(tensor->quantization.params);
    if (tensor->quantization.type != abi::QuantizationType::kAffine || affine == nullptr || affine->scale == nullptr) {
      return name + " carries no scale";
    }
    if (affine->scale->size != 1) return name + " has " + Number(affine->scale->size) + " scales, not one";
    if (!std::isfinite(tensor->params.scale) || tensor->params.scale <= 0) {
      return name + " has a scale of " + Real(tensor->params.scale);
    }
    if (wide && tensor->params.zero_point != 0) {
      return name + " has a zero point of " + Number(tensor->params.zero_point) + ", not 0 as INT16 has it";
    }
    if (tensor->params.zero_point < INT8_MIN || tensor->params.zero_point > INT8_MAX) {
      return name + " has a zero point of " + Number(tensor->params.zero_point) + ", outside int8";
    }
  }
  return "";
}

struct TakenBias {
  Type activations;
  bool dense_alone;
  Type type;

  bool Covers(const NodeView& view) const {
    return view.input()->type == activations && (!dense_alone || view.kind == OpKind::kDense);
  }
};

// The runtime's convolutions read a bias beside 16-bit activations as 64-bit integers, whatever its type, unless a
// parameter of the operator says otherwise.
constexpr TakenBias kTakenBiases[] = {
    {Type::kInt8, false, Type::kInt32},
    {Type::kInt16, false, Type::kInt64},
    {Type::kInt16, true, Type::kInt32},
    {Type::kFloat32, false, Type::kFloat32},
};

const TakenBias* FindBiasType(const NodeView& view, Type type) {
  for (const TakenBias& taken : kTakenBiases) {
    if (taken.Covers(view) && taken.type == type) return &taken;
  }
  return nullptr;
}

std::string CheckBias(const NodeView& view) {
  if (view.bias() == nullptr) return "";
  const std::string name = "bias " + Quoted(*view.bias());
  const Type type = view.bias()->type;
  if (FindBiasType(view, type) == nullptr) {
    std::string types;
    for (const TakenBias& taken : kTakenBiases) {
      if (!taken.Covers(view)) continue;
      types += (types.empty() ? "" : " or ") + abi::TypeName(taken.type);
    }
    return name + " is " + abi::TypeName(type) + ", not " + types;
  }
  if (view.bias()->allocation_type != abi::AllocationType::kConstant || view.bias()->data == nullptr) {
    return name + " is not a constant of the file";
  }
  if (view.bias()->bytes != abi::SizeOf(type) * static_cast<size_t>(view.out_channels())) {
    return name + " has " + Number(static_cast<int64_t>(view.bias()->bytes / abi::SizeOf(type))) + " values for " +
           Number(view.out_channels()) + " output channels";
  }
  return "";
}

std::string CheckFusedActivation(const NodeView& view) {
  constexpr abi::Activation kTaken[] = {abi::Activation::kNone, abi::Activation::kRelu, abi::Activation::kRelu6,
                                        abi::Activation::kReluN1To1};
  for (const abi::Activation activation : kTaken) {
    if (view.activation == activation) return "";
  }
  return "fused activation " + abi::ActivationName(view.activation) + " (taken: none, relu, relu6, relu_n1_to_1)";
}

std::string CheckWindow(const NodeView& view) {
  if (view.window.padding != abi::Padding::kSame && view.window.padding != abi::Padding::kValid)
    return "padding is unknown";
  if (view.window.stride_height < 1 || view.window.stride_width < 1) {
    return "strides are " + Number(view.window.stride_height) + "x" + Number(view.window.stride_width);
  }
  if (view.window.dilation_height < 1 || view.window.dilation_width < 1) {
    return "dilations are " + Number(view.window.dilation_height) + "x" + Number(view.window.dilation_width);
  }
  return "";
}

// Of 64-bit sums, as the runtime has it.
constexpr int32_t kMaxWideShift = 7;

std::string CheckScaleRatio(const NodeView& view) {
  if (view.input()->type == Type::kFloat32) return "";
  const int32_t most = view.arithmetic() == Arithmetic::kWide ? kMaxWideShift : INT32_MAX;
  const abi::FloatArray& scales = *view.weight_quantization().scale;
  for (int32_t i = 0; i < scales.size; ++i) {
    int32_t multiplier, shift;
    if (!QuantizeMultiplier(EffectiveScale(view, i), &multiplier, &shift) || shift > most) {
      return "scale " + Number(i) + " of weights " + Quoted(*view.weights()) + " is " + Real(scales.data[i]) +
             ", out of range with those of input and output";
    }
  }
  return "";
}

constexpr std::string (*kLinearChecks[])(const NodeView&) = {
    CheckHasWeights,
    CheckActivationTypes,
    CheckWeightType,
    CheckWeightsConstant,
    CheckWeightLayout,
    CheckRanks,
    CheckWeightShape,
    CheckChannels,
    CheckWindow,
    CheckFusedActivation,
    CheckWeightQuantization,
    CheckBias,
    CheckActivationQuantization,
    CheckScaleRatio,
};

}  // namespace

std::string CheckDequantize(const NodeView& view) {
  if (view.input()->allocation_type == abi::AllocationType::kConstant) return "";
  return "input " + Quoted(*view.input()) + " is not a constant of the file";
}

std::string CheckLinear(const NodeView& view) {
  for (const auto check : kLinearChecks) {
    std::string reason = check(view);
    if (!reason.empty()) return reason;
  }
  return "";
}

}  // namespace tfq::int4
