// What has to hold of the operators around linear layers.
#include <algorithm>
#include <cmath>

#include "delegates/int4/abi/names.h"
#include "delegates/int4/checks.h"
#include "delegates/int4/describe.h"
#include "delegates/int4/ops/batch_matmul.h"
#include "delegates/int4/ops/broadcast.h"
#include "delegates/int4/ops/mean.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/runtime_kernels.h"
#include "delegates/int4/ops/softmax.h"
#include "delegates/int4/ops/transpose.h"

namespace tfq::int4 {
namespace {

// Scale of the first tensor over that of the second, as the runtimes divide them.
float Ratio(const abi::Tensor& numerator, const abi::Tensor& denominator) {
  return numerator.params.scale / denominator.params.scale;
}

std::string CheckInt8(const abi::Tensor& tensor, const char* role) {
  const std::string name = std::string(role) + " " + Quoted(tensor);
  if (tensor.dims == nullptr) return name + " has no dimensions";
  if (tensor.type != abi::Type::kInt8) return name + " is " + abi::TypeName(tensor.type) + ", not INT8";
  const auto* affine = static_cast<const abi::AffineQuantization*>(tensor.quantization.params);
  if (tensor.quantization.type != abi::QuantizationType::kAffine || affine == nullptr || affine->scale == nullptr) {
    return name + " carries no scale";
  }
  if (affine->scale->size != 1) return name + " has " + Number(affine->scale->size) + " scales, not one";
  if (!std::isfinite(tensor.params.scale) || tensor.params.scale <= 0) {
    return name + " has a scale of " + Real(tensor.params.scale);
  }
  if (tensor.params.zero_point < INT8_MIN || tensor.params.zero_point > INT8_MAX) {
    return name + " has a zero point of " + Number(tensor.params.zero_point) + ", outside int8";
  }
  return "";
}

std::string CheckInt8Tensors(const NodeView& view) {
  if (view.outputs.size() != 1) return "it has " + Number(static_cast<int64_t>(view.outputs.size())) + " outputs";
  std::string reason = CheckInt8(*view.output(), "output");
  for (size_t i = 0; i < view.inputs.size() && reason.empty(); ++i) reason = CheckInt8(*view.input(i), "input");
  return reason;
}

// Operators that move values do not scale them.
std::string CheckOneScale(const NodeView& view) {
  const abi::QuantizationParams& output = view.output()->params;
  for (const TensorView& input : view.inputs) {
    const abi::QuantizationParams& params = input.tensor->params;
    if (params.scale != output.scale || params.zero_point != output.zero_point) {
      return "input " + Quoted(*input.tensor) + " and output " + Quoted(*view.output()) +
             " differ in scale or zero point";
    }
  }
  return "";
}

std::string CheckNhwc(const NodeView& view) {
  if (Rank(*view.input()) == 4) return "";
  return "input " + Quoted(*view.input()) + " has rank " + Number(Rank(*view.input())) + ", not 4";
}

std::string CheckActivation(const NodeView& view) {
  switch (view.activation) {
    case abi::Activation::kNone:
    case abi::Activation::kRelu:
    case abi::Activation::kRelu6:
    case abi::Activation::kReluN1To1:
      return "";
    default:
      return "fused activation " + abi::ActivationName(view.activation) + " (taken: none, relu, relu6, relu_n1_to_1)";
  }
}

std::string CheckRatio(float ratio, float low, float high, const char* what) {
  if (ratio >= low && ratio <= high) return "";
  return std::string(what) + " is " + Real(ratio) + ", outside " + Real(low) + " to " + Real(high);
}

constexpr size_t kAnyNumber = SIZE_MAX;

// An input that is given when the op is made.
std::string CheckConstant(const NodeView& view, size_t values, const char* role) {
  const abi::Tensor* tensor = view.constant(0);
  if (tensor == nullptr) return std::string("it has no ") + role;
  const std::string name = role + (" " + Quoted(*tensor));
  if (tensor->allocation_type != abi::AllocationType::kConstant || tensor->data == nullptr) {
    return name + " is not a constant of the file";
  }
  if (tensor->type != abi::Type::kInt32) return name + " is " + abi::TypeName(tensor->type) + ", not INT32";
  if (values != kAnyNumber && tensor->bytes != values * sizeof(int32_t)) {
    return name + " has " + Number(static_cast<int64_t>(tensor->bytes / sizeof(int32_t))) + " values, not " +
           Number(static_cast<int64_t>(values));
  }
  return "";
}

using Check = std::string (*)(const NodeView&);

template <size_t size>
std::string First(const Check (&checks)[size], const NodeView& view) {
  for (const Check check : checks) {
    std::string reason = check(view);
    if (!reason.empty()) return reason;
  }
  return "";
}

// The built-in kernel computes in 16 bits at its end, which larger ratios overflow.
constexpr float kMaxBuiltInAddRatio = 64, kMaxBuiltInMulRatio = 0.5f;
// XNNPACK takes other ratios not at all, and the built-in kernel that steps in rounds differently.
constexpr float kMinQuantizeRatio = 1.0f / 256, kMaxQuantizeRatio = 128;
constexpr double kMinTermRatio = 1.0 / (1 << 20);

std::string CheckLargerScale(const NodeView& view) {
  return CheckRatio(std::max(Ratio(*view.input(0), *view.output()), Ratio(*view.input(1), *view.output())),
                    1.0f / (1 << 10), kMaxBuiltInAddRatio, "the larger scale of its inputs over that of its output");
}

std::string CheckAddScales(const NodeView& view) {
  if (XnnpackRuns(view)) return "";
  const float a = view.input(0)->params.scale, b = view.input(1)->params.scale;
  if (static_cast<double>(std::min(a, b) / std::max(a, b)) < kMinTermRatio) {
    return "scales of its inputs are too far apart";
  }
  return CheckLargerScale(view);
}

std::string CheckSubScales(const NodeView& view) { return XnnpackRuns(view) ? "" : CheckLargerScale(view); }

std::string CheckMulScales(const NodeView& view) {
  if (XnnpackRuns(view)) return "";
  return CheckRatio(ProductRatio(view), 1e-9f, kMaxBuiltInMulRatio, "scales of its inputs over that of its output");
}

std::string CheckMatmulShapes(const NodeView& view) {
  if (view.adjoint[0]) return "its first factor is transposed (taken: the second, or none)";
  MatmulPlan plan;
  const abi::IntArray &a = *view.input(0)->dims, &b = *view.input(1)->dims;
  return PlanMatmul(Dims(a.begin(), a.end()), Dims(b.begin(), b.end()), view.adjoint[1], &plan);
}

std::string CheckMatmulScales(const NodeView& view) {
  return CheckRatio(ProductRatio(view), 1.0f / (1 << 24), 128, "scales of its factors over that of its output");
}

std::string CheckBroadcast(const NodeView& view) {
  BroadcastPlan plan;
  const abi::IntArray &a = *view.input(0)->dims, &b = *view.input(1)->dims;
  return PlanBroadcast(Dims(a.begin(), a.end()), Dims(b.begin(), b.end()), &plan);
}

// The runtime's kernel refuses or overflows outside.
std::string CheckSquareScales(const NodeView& view) {
  const float a = view.input(0)->params.scale, b = view.input(1)->params.scale, larger = std::max(a, b);
  if (static_cast<double>(std::min(a, b) / larger) < kMinTermRatio) return "scales of its inputs are too far apart";
  return CheckRatio(larger * larger / view.output()->params.scale, 1.0f / (1 << 16), 1 << 11,
                    "the square of the larger scale of its inputs over the scale of its output");
}

std::string CheckPoolWindow(const NodeView& view) {
  const WindowParams& window = view.window;
  if (window.padding != abi::Padding::kSame && window.padding != abi::Padding::kValid) return "padding is unknown";
  if (window.stride_height < 1 || window.stride_width < 1) {
    return "strides are " + Number(window.stride_height) + "x" + Number(window.stride_width);
  }
  if (view.filter_height < 1 || view.filter_width < 1 || view.filter_height > 256 || view.filter_width > 256) {
    return "its window is " + Number(view.filter_height) + "x" + Number(view.filter_width);
  }
  return "";
}

std::string CheckMeanAxes(const NodeView& view) {
  std::string reason = CheckConstant(view, kAnyNumber, "axes");
  if (!reason.empty()) return reason;
  MeanPlan plan;
  const abi::IntArray& input = *view.input()->dims;
  return PlanMean(Dims(input.begin(), input.end()), MeanAxesOf(view), view.keep_num_dims, &plan);
}

std::string CheckOrder(const NodeView& view) {
  std::string reason = CheckConstant(view, kAnyNumber, "order");
  if (!reason.empty()) return reason;
  TransposePlan plan;
  const abi::IntArray& input = *view.input()->dims;
  return PlanTranspose(Dims(input.begin(), input.end()), TransposeOrderOf(view), &plan);
}

std::string CheckRsqrtScales(const NodeView& view) {
  // The runtime refuses to run where a value is below the zero point.
  if (view.input()->params.zero_point != INT8_MIN) {
    return "input " + Quoted(*view.input()) + " has a zero point of " + Number(view.input()->params.zero_point) +
           ", not -128: values may be negative";
  }
  return CheckRatio(static_cast<float>(RsqrtFactor(view)), 1.0f / (1 << 8), 1 << 20,
                    "the inverse root of the scale of its input over that of its output");
}

std::string CheckOneRatio(const NodeView& view) {
  return CheckRatio(Ratio(*view.input(), *view.output()), 1.0f / (1 << 16), 1 << 10,
                    "scale of its input over that of its output");
}

std::string CheckPaddings(const NodeView& view) {
  std::string reason = CheckConstant(view, 8, "paddings");
  if (!reason.empty()) return reason;
  const int32_t* amounts = static_cast<const int32_t*>(view.constant(0)->data);
  if (std::any_of(amounts, amounts + 8, [](int32_t amount) { return amount < 0 || amount > 4096; })) {
    return "paddings " + Quoted(*view.constant(0)) + " are out of range";
  }
  if (amounts[0] == 0 && amounts[1] == 0 && amounts[6] == 0 && amounts[7] == 0) return "";
  return "it pads the batch or the channels (taken: rows and columns)";
}

std::string CheckShape(const NodeView& view) {
  if (view.constant(0) == nullptr) return "its shape is not a tensor";
  if (Rank(*view.constant(0)) != 1) return "its shape has rank " + Number(Rank(*view.constant(0)));
  std::string reason = CheckConstant(view, static_cast<size_t>(Dim(*view.constant(0), 0)), "shape");
  if (!reason.empty()) return reason;
  const int32_t* sizes = static_cast<const int32_t*>(view.constant(0)->data);
  const int32_t* end = sizes + Dim(*view.constant(0), 0);
  int64_t elements = 1;
  for (const int32_t* size = sizes; size != end && elements <= INT32_MAX; ++size) elements *= std::max(1, *size);
  const bool sound = std::all_of(sizes, end, [](int32_t size) { return size >= -1; }) &&
                     std::count(sizes, end, -1) <= 1 && elements <= INT32_MAX;
  return sound ? "" : "its shape is " + Shape(sizes, end);
}

std::string CheckNoActivation(const NodeView& view) {
  if (view.activation == abi::Activation::kNone) return "";
  return "fused activation " + abi::ActivationName(view.activation);
}

// The built-in kernel refuses larger ones.
std::string CheckHardSwishScale(const NodeView& view) {
  return CheckRatio(Ratio(*view.input(), *view.output()), 1.0f / (1 << 10), 127,
                    "scale of its input over that of its output");
}

// Of values between 0 and 1: the runtime has no other.
std::string CheckShareScale(const NodeView& view) {
  if (view.output()->params.scale == 1.0f / 256 && view.output()->params.zero_point == INT8_MIN) return "";
  return "output " + Quoted(*view.output()) + " has a scale of " + Real(view.output()->params.scale) +
         " and a zero point of " + Number(view.output()->params.zero_point) + ", not 1/256 and -128";
}

std::string CheckSoftmaxRows(const NodeView& view) {
  const float step = view.beta * view.input()->params.scale;
  if (!std::isfinite(step) || step < 0) return "its beta is " + Real(view.beta) + " (taken: 0 and more)";
  if (Rank(*view.input()) < 1) return "input " + Quoted(*view.input()) + " has no dimensions";
  const int32_t columns = Dim(*view.input(), Rank(*view.input()) - 1);
  if (columns >= 1 && columns <= kMostSoftmaxColumns) return "";
  return "its rows have " + Number(columns) + " values (taken: 1 to " + Number(kMostSoftmaxColumns) + ")";
}

std::string CheckQuantizeScale(const NodeView& view) {
  if (view.match != Match::kXnnpack) return CheckOneRatio(view);
  return CheckRatio(Ratio(*view.input(), *view.output()), kMinQuantizeRatio, kMaxQuantizeRatio,
                    "scale of its input over that of its output");
}

constexpr Check kBatchMatmulChecks[] = {CheckInt8Tensors, CheckMatmulShapes, CheckMatmulScales};
constexpr Check kSquaredDifferenceChecks[] = {CheckInt8Tensors, CheckBroadcast, CheckSquareScales};
constexpr Check kAddChecks[] = {CheckInt8Tensors, CheckBroadcast, CheckActivation, CheckAddScales};
constexpr Check kSubChecks[] = {CheckInt8Tensors, CheckBroadcast, CheckActivation, CheckSubScales};
constexpr Check kMulChecks[] = {CheckInt8Tensors, CheckBroadcast, CheckActivation, CheckMulScales};
constexpr Check kPoolChecks[] = {CheckInt8Tensors, CheckNhwc, CheckOneScale, CheckPoolWindow, CheckActivation};
constexpr Check kMeanChecks[] = {CheckInt8Tensors, CheckMeanAxes, CheckOneRatio};
constexpr Check kPadChecks[] = {CheckInt8Tensors, CheckNhwc, CheckOneScale, CheckPaddings};
constexpr Check kConcatenationChecks[] = {CheckInt8Tensors, CheckOneScale, CheckNoActivation};
constexpr Check kReshapeChecks[] = {CheckInt8Tensors, CheckOneScale, CheckShape};
constexpr Check kTransposeChecks[] = {CheckInt8Tensors, CheckOneScale, CheckOrder};
constexpr Check kSoftmaxChecks[] = {CheckInt8Tensors, CheckSoftmaxRows, CheckShareScale};
constexpr Check kReluChecks[] = {CheckInt8Tensors, CheckOneRatio};
constexpr Check kHardSwishChecks[] = {CheckInt8Tensors, CheckHardSwishScale};
constexpr Check kLogisticChecks[] = {CheckInt8Tensors, CheckShareScale};
constexpr Check kRsqrtChecks[] = {CheckInt8Tensors, CheckRsqrtScales};
constexpr Check kQuantizeChecks[] = {CheckInt8Tensors, CheckQuantizeScale};

}  // namespace

std::string CheckBatchMatmul(const NodeView& view) { return First(kBatchMatmulChecks, view); }
std::string CheckSquaredDifference(const NodeView& view) { return First(kSquaredDifferenceChecks, view); }
std::string CheckAdd(const NodeView& view) { return First(kAddChecks, view); }
std::string CheckSub(const NodeView& view) { return First(kSubChecks, view); }
std::string CheckMul(const NodeView& view) { return First(kMulChecks, view); }
std::string CheckPool(const NodeView& view) { return First(kPoolChecks, view); }
std::string CheckMean(const NodeView& view) { return First(kMeanChecks, view); }
std::string CheckPad(const NodeView& view) { return First(kPadChecks, view); }
std::string CheckConcatenation(const NodeView& view) { return First(kConcatenationChecks, view); }
std::string CheckReshape(const NodeView& view) { return First(kReshapeChecks, view); }
std::string CheckTranspose(const NodeView& view) { return First(kTransposeChecks, view); }
std::string CheckSoftmax(const NodeView& view) { return First(kSoftmaxChecks, view); }
std::string CheckRelu(const NodeView& view) { return First(kReluChecks, view); }
std::string CheckHardSwish(const NodeView& view) { return First(kHardSwishChecks, view); }
std::string CheckLogistic(const NodeView& view) { return First(kLogisticChecks, view); }
std::string CheckRsqrt(const NodeView& view) { return First(kRsqrtChecks, view); }
std::string CheckQuantize(const NodeView& view) { return First(kQuantizeChecks, view); }

}  // namespace tfq::int4
