// Which nodes the delegate takes, and why it declines the others.
#ifndef TFQ_DELEGATES_INT4_SUPPORT_H_
#define TFQ_DELEGATES_INT4_SUPPORT_H_

#include <cstdint>
#include <string>

#include "delegates/int4/abi/tflite.h"

namespace tfq::int4 {

enum class OpKind : int32_t { kConv, kDepthwise, kDense };

// How a window slides over an image.
struct WindowParams {
  abi::Padding padding = abi::Padding::kValid;
  int32_t stride_height = 1;
  int32_t stride_width = 1;
  int32_t dilation_height = 1;
  int32_t dilation_width = 1;
};

// A node of one of the three kinds with its tensors found and its parameters in one form. The tensors are the
// runtime's: they stay where they are until it adds others or resizes.
struct NodeView {
  OpKind kind = OpKind::kConv;
  const abi::Tensor* input = nullptr;
  const abi::Tensor* weights = nullptr;
  const abi::Tensor* bias = nullptr;  // nullptr when there is none
  const abi::Tensor* output = nullptr;
  int32_t input_index = 0;
  int32_t output_index = 0;
  abi::Activation activation = abi::Activation::kNone;
  WindowParams window;
  int32_t weights_format = 0;
  bool keep_num_dims = false;

  const abi::AffineQuantization& weight_quantization() const {
    return *static_cast<const abi::AffineQuantization*>(weights->quantization.params);
  }
  // Output channels, counted along the axis of the weights that carries them.
  int32_t channel_axis() const { return kind == OpKind::kDepthwise ? 3 : 0; }
  int32_t out_channels() const { return weights->dims->data[channel_axis()]; }
};

// Fills `view` when the node can be taken. Otherwise returns why not, naming the tensor, type or parameter; empty means
// taken.
std::string WhyDeclined(const abi::Context& context, const abi::Node& node, const abi::Registration& registration,
                        NodeView* view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_SUPPORT_H_
