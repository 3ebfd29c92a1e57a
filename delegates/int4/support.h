// Which nodes the delegate takes, and why it declines the others.
#ifndef TFQ_DELEGATES_INT4_SUPPORT_H_
#define TFQ_DELEGATES_INT4_SUPPORT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "delegates/int4/abi/tflite.h"
#include "delegates/int4/options.h"

namespace tfq::int4 {

class Op;
struct NodeView;

enum class OpKind : int32_t {
  kConv,
  kDepthwise,
  kDense,
  kBatchMatmul,
  kSquaredDifference,
  kAdd,
  kSub,
  kMul,
  kAveragePool,
  kMaxPool,
  kMean,
  kPad,
  kConcatenation,
  kReshape,
  kTranspose,
  kSoftmax,
  kRelu,
  kRelu6,
  kReluN1To1,
  kHardSwish,
  kLogistic,
  kRsqrt,
  kQuantize,
  kDequantize,
};

// Convolution, depthwise convolution or dense layer: what the delegate is for.
constexpr bool IsLinear(OpKind kind) { return kind <= OpKind::kDense; }

// Taken wherever it is: linear layers, and what the runtimes are slow at. The other kinds are taken where they are next
// to one of these, so that models stay in one piece.
constexpr bool PaysAlone(OpKind kind) { return kind <= OpKind::kSquaredDifference; }

// A kind of node that the delegate takes: one row of the table in support.cc.
struct SupportedOp {
  int32_t builtin_code;
  OpKind kind;
  int32_t
      inputs;  // leading inputs of the node that it reads when it runs, or kAllInputs; those after are its constants
  void (*read_params)(const void* params, NodeView* view);  // nullptr for a kind without parameters
  std::string (*check)(const NodeView& view);               // why it is declined, or nothing
  // The op, with what it needs of the constants packed; it keeps nothing of the view. nullptr when there is no memory.
  std::unique_ptr<Op> (*make)(const NodeView& view, const Options& options);
  const char* (*kernel)(const NodeView& view, const Options& options);  // name of what will run
};

// What a linear node computes with. kStatic: int8 from end to end. kWide: int16 from end to end. kDynamic: its input is
// floating-point and becomes int8 when it runs. kWeightOnly: its input is floating-point, and so are the weights that a
// DEQUANTIZE makes.
enum class Arithmetic : int32_t { kStatic, kWide, kDynamic, kWeightOnly };

constexpr int32_t kAllInputs = INT32_MAX;

// How a window slides over an image.
struct WindowParams {
  abi::Padding padding = abi::Padding::kValid;
  int32_t stride_height = 1;
  int32_t stride_width = 1;
  int32_t dilation_height = 1;
  int32_t dilation_width = 1;
  // Rows and columns of padding beside that of `padding`: what is left of a PAD in front.
  int32_t top = 0;
  int32_t bottom = 0;
  int32_t left = 0;
  int32_t right = 0;
};

// A tensor of the runtime, which stays where it is until the runtime adds others or resizes.
struct TensorView {
  int32_t index = abi::kOptionalTensor;
  const abi::Tensor* tensor = nullptr;  // nullptr where the node was given none
};

// A node with its tensors found and its parameters in one form.
struct NodeView {
  const SupportedOp* op = nullptr;
  OpKind kind = OpKind::kConv;
  Match match = Match::kXnnpack;  // whose kernel the op stands for
  std::vector<TensorView> inputs;
  std::vector<TensorView> constants;  // inputs that are read once, when the op is made: weights, bias, axes
  std::vector<TensorView> outputs;
  abi::Activation activation = abi::Activation::kNone;
  WindowParams window;
  int32_t weights_format = 0;
  bool keep_num_dims = false;  // of a dense layer's batch dimensions, or of a mean's reduced ones
  int32_t axis = 0;            // of a concatenation
  float beta = 1;              // of a softmax: what its inputs are multiplied by
  bool adjoint[2] = {};        // of the factors of a matrix product: read with rows and columns swapped
  int32_t filter_height = 1;   // of a pool
  int32_t filter_width = 1;
  TensorView dequantized;  // the floating-point tensor that the weights stand for, of weight-only nodes
  const abi::Tensor* block_scales = nullptr;  // of weights in blocks

  const abi::Tensor* input(size_t position = 0) const { return inputs[position].tensor; }
  const abi::Tensor* output() const { return outputs[0].tensor; }
  const abi::Tensor* constant(size_t position) const {
    return position < constants.size() ? constants[position].tensor : nullptr;
  }

  // Of linear nodes.
  const abi::Tensor* weights() const { return constant(0); }
  const abi::Tensor* bias() const { return constant(1); }  // nullptr when there is none
  const abi::AffineQuantization& weight_quantization() const {
    return *static_cast<const abi::AffineQuantization*>(weights()->quantization.params);
  }
  const abi::BlockwiseQuantization& weight_blocks() const {
    return *static_cast<const abi::BlockwiseQuantization*>(weights()->quantization.params);
  }
  bool has_blocks() const { return weights()->quantization.type == abi::QuantizationType::kBlockwise; }
  Arithmetic arithmetic() const {
    if (input()->type == abi::Type::kInt16) return Arithmetic::kWide;
    if (input()->type != abi::Type::kFloat32) return Arithmetic::kStatic;
    return dequantized.tensor == nullptr ? Arithmetic::kDynamic : Arithmetic::kWeightOnly;
  }
  // Output channels, counted along the axis of the weights that carries them.
  int32_t channel_axis() const { return kind == OpKind::kDepthwise ? 3 : 0; }
  int32_t weight_bits() const { return weights()->type == abi::Type::kInt4 ? 4 : 8; }
  int32_t out_channels() const { return weights()->dims->data[channel_axis()]; }
};

// Fills `view` when the node can be taken. Otherwise returns why not, naming the tensor, type or parameter; empty means
// taken.
std::string WhyDeclined(abi::Context& context, const abi::Node& node, const abi::Registration& registration,
                        const Options& options, NodeView* view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_SUPPORT_H_
