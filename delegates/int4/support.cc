#include "delegates/int4/support.h"

#include <algorithm>
#include <iterator>

#include "delegates/int4/checks.h"
#include "delegates/int4/dequantized.h"
#include "delegates/int4/ops/op.h"

namespace tfq::int4 {
namespace {

template <typename Params>  // ConvParams or DepthwiseParams, which order their members differently
void ReadWindowed(const void* data, NodeView* view) {
  const auto& params = *static_cast<const Params*>(data);
  view->activation = params.activation;
  view->window = {params.padding, params.stride_height, params.stride_width, params.dilation_height,
                  params.dilation_width};
}

void ReadDense(const void* data, NodeView* view) {
  const auto& params = *static_cast<const abi::DenseParams*>(data);
  view->activation = params.activation;
  view->weights_format = params.weights_format;
  view->keep_num_dims = params.keep_num_dims != 0;
}

void ReadPool(const void* data, NodeView* view) {
  const auto& params = *static_cast<const abi::PoolParams*>(data);
  view->activation = params.activation;
  view->window = {};
  view->window.padding = params.padding;
  view->window.stride_height = params.stride_height;
  view->window.stride_width = params.stride_width;
  view->filter_height = params.filter_height;
  view->filter_width = params.filter_width;
}

void ReadArithmetic(const void* data, NodeView* view) {
  view->activation = static_cast<const abi::ArithmeticParams*>(data)->activation;
}

void ReadConcatenation(const void* data, NodeView* view) {
  const auto& params = *static_cast<const abi::ConcatenationParams*>(data);
  view->axis = params.axis;
  view->activation = params.activation;
}

void ReadBatchMatmul(const void* data, NodeView* view) {
  const auto& params = *static_cast<const abi::BatchMatmulParams*>(data);
  view->adjoint[0] = params.adjoint_first != 0;
  view->adjoint[1] = params.adjoint_second != 0;
}

void ReadReducer(const void* data, NodeView* view) {
  view->keep_num_dims = static_cast<const abi::ReducerParams*>(data)->keep_dims != 0;
}

void ReadSoftmax(const void* data, NodeView* view) { view->beta = static_cast<const abi::SoftmaxParams*>(data)->beta; }

constexpr SupportedOp kSupportedOps[] = {
    // clang-format off
    {abi::kConv2D, OpKind::kConv, 1, ReadWindowed<abi::ConvParams>, CheckLinear, MakeConv, GemmName},
    {abi::kDepthwiseConv2D, OpKind::kDepthwise, 1, ReadWindowed<abi::DepthwiseParams>, CheckLinear, MakeDepthwise, DepthwiseName},
    {abi::kFullyConnected, OpKind::kDense, 1, ReadDense, CheckLinear, MakeDense, GemmName},
    {abi::kBatchMatmul, OpKind::kBatchMatmul, 2, ReadBatchMatmul, CheckBatchMatmul, MakeBatchMatmul, BatchMatmulName},
    {abi::kSquaredDifference, OpKind::kSquaredDifference, 2, nullptr, CheckSquaredDifference, MakeSquaredDifference, LookupPairsName},
    {abi::kAdd, OpKind::kAdd, 2, ReadArithmetic, CheckAdd, MakeAdd, AddName},
    {abi::kSub, OpKind::kSub, 2, ReadArithmetic, CheckSub, MakeSub, LookupPairsName},
    {abi::kMul, OpKind::kMul, 2, ReadArithmetic, CheckMul, MakeMul, MulName},
    {abi::kAveragePool2D, OpKind::kAveragePool, 1, ReadPool, CheckPool, MakeAveragePool, AveragePoolName},
    {abi::kMaxPool2D, OpKind::kMaxPool, 1, ReadPool, CheckPool, MakeMaxPool, MaxPoolName},
    {abi::kMean, OpKind::kMean, 1, ReadReducer, CheckMean, MakeMean, MeanName},
    {abi::kPad, OpKind::kPad, 1, nullptr, CheckPad, MakePad, CopyName},
    {abi::kConcatenation, OpKind::kConcatenation, kAllInputs, ReadConcatenation, CheckConcatenation, MakeConcatenation, CopyName},
    {abi::kReshape, OpKind::kReshape, 1, nullptr, CheckReshape, MakeReshape, CopyName},
    {abi::kTranspose, OpKind::kTranspose, 1, nullptr, CheckTranspose, MakeTranspose, CopyName},
    {abi::kSoftmax, OpKind::kSoftmax, 1, ReadSoftmax, CheckSoftmax, MakeSoftmax, LookupName},
    {abi::kRelu, OpKind::kRelu, 1, nullptr, CheckRelu, MakeRelu, LookupName},
    {abi::kRelu6, OpKind::kRelu6, 1, nullptr, CheckRelu, MakeRelu6, LookupName},
    {abi::kReluN1To1, OpKind::kReluN1To1, 1, nullptr, CheckRelu, MakeReluN1To1, LookupName},
    {abi::kHardSwish, OpKind::kHardSwish, 1, nullptr, CheckHardSwish, MakeHardSwish, LookupName},
    {abi::kLogistic, OpKind::kLogistic, 1, nullptr, CheckLogistic, MakeLogistic, LookupName},
    {abi::kRsqrt, OpKind::kRsqrt, 1, nullptr, CheckRsqrt, MakeRsqrt, LookupName},
    {abi::kDequantize, OpKind::kDequantize, 1, nullptr, CheckDequantize, nullptr, DequantizeName},
    {abi::kQuantize, OpKind::kQuantize, 1, nullptr, CheckQuantize, MakeQuantize, LookupName},
    // clang-format on
};

std::vector<TensorView> Tensors(const abi::Context& context, const abi::IntArray& indices, int32_t begin, int32_t end) {
  std::vector<TensorView> tensors;
  for (int32_t i = begin; i < end; ++i) {
    const int32_t index = indices.data[i];
    const bool known = index >= 0 && static_cast<size_t>(index) < context.tensors_size;
    tensors.push_back(known ? TensorView{index, &context.tensors[index]} : TensorView());
  }
  return tensors;
}

bool Complete(const std::vector<TensorView>& tensors) {
  return !tensors.empty() &&
         std::all_of(tensors.begin(), tensors.end(), [](const TensorView& tensor) { return tensor.tensor != nullptr; });
}

// Whether the sizes are those of a tensor that there can be; what follows counts values without looking again.
bool Possible(const abi::Tensor& tensor) {
  constexpr int64_t kMost = int64_t{1} << 40;
  if (tensor.dims == nullptr) return true;
  int64_t elements = 1;
  for (const int32_t size : *tensor.dims) {
    if (size < 0 || (size > 0 && elements > kMost / size)) return false;
    elements *= size;
  }
  return true;
}

// Where the scales of weights in blocks lie; nullptr for other weights.
const abi::Tensor* BlockScales(const abi::Context& context, const abi::Tensor* weights) {
  if (weights == nullptr || weights->quantization.type != abi::QuantizationType::kBlockwise) return nullptr;
  const auto* blocks = static_cast<const abi::BlockwiseQuantization*>(weights->quantization.params);
  if (blocks == nullptr || blocks->scale_tensor < 0) return nullptr;
  const size_t index = static_cast<size_t>(blocks->scale_tensor);
  return index < context.tensors_size ? &context.tensors[index] : nullptr;
}

// Puts what a DEQUANTIZE reads in the place of what it writes, and finds the scales of blocks.
void FindWeights(abi::Context& context, const abi::Node& node, NodeView* view) {
  if (view->weights() != nullptr && view->weights()->type == abi::Type::kFloat32) {
    const TensorView source = DequantizedFrom(context, node, view->constants[0].index);
    if (source.tensor != nullptr) {
      view->dequantized = view->constants[0];
      view->constants[0] = source;
    }
  }
  view->block_scales = BlockScales(context, view->weights());
}

}  // namespace

std::string WhyDeclined(abi::Context& context, const abi::Node& node, const abi::Registration& registration,
                        const Options& options, NodeView* view) {
  const SupportedOp* op = std::find_if(std::begin(kSupportedOps), std::end(kSupportedOps), [&](const SupportedOp& o) {
    return o.builtin_code == registration.builtin_code;
  });
  if (op == std::end(kSupportedOps)) return "op not supported";
  if (node.delegate != nullptr) return "another delegate has taken it";
  if (op->read_params != nullptr && node.builtin_data == nullptr) return "it has no parameters";

  *view = NodeView();
  view->op = op;
  view->kind = op->kind;
  view->match = options.match;
  const int32_t inputs = std::min(op->inputs, node.inputs->size);
  view->inputs = Tensors(context, *node.inputs, 0, inputs);
  view->constants = Tensors(context, *node.inputs, inputs, node.inputs->size);
  view->outputs = Tensors(context, *node.outputs, 0, node.outputs->size);
  if ((op->inputs != kAllInputs && inputs < op->inputs) || !Complete(view->inputs) || !Complete(view->outputs)) {
    return "it has no input or no output";
  }
  for (const std::vector<TensorView>* tensors : {&view->inputs, &view->constants, &view->outputs}) {
    for (const TensorView& tensor : *tensors) {
      if (tensor.tensor != nullptr && !Possible(*tensor.tensor)) return "a tensor has a size that there cannot be";
    }
  }
  if (op->read_params != nullptr) op->read_params(node.builtin_data, view);
  if (IsLinear(view->kind)) FindWeights(context, node, view);
  const std::string reason = op->check(*view);
  return reason.empty() && IsLinear(view->kind) ? WhySlow(*view, options) : reason;
}

}  // namespace tfq::int4
