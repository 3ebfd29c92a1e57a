#include "delegates/int4/test/layers.h"

#include <algorithm>
#include <cmath>

#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/test/oracle.h"

namespace tfq::int4 {
namespace {

std::vector<uint8_t> PackValues(const std::vector<int8_t>& values, int32_t bits) {
  if (bits == 8) return {values.begin(), values.end()};
  std::vector<uint8_t> packed((values.size() + 1) / 2, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    packed[i / 2] = static_cast<uint8_t>(packed[i / 2] | (values[i] & 0xF) << (i % 2 * 4));
  }
  return packed;
}

// Output size and padding in front along one axis, as TensorFlow defines them.
void Extent(int32_t in, int32_t kernel, int32_t stride, int32_t dilation, bool same, int32_t* out, int32_t* pad) {
  const int32_t extent = (kernel - 1) * dilation + 1;
  *out = static_cast<int32_t>(std::ceil(static_cast<double>(same ? in : in - extent + 1) / stride));
  *pad = same ? std::max(0, (*out - 1) * stride + extent - in) / 2 : 0;
}

struct Quantities {
  const Layer& layer;
  const Image& input;
  const std::vector<int8_t>& weights;
  const std::vector<int32_t>& bias;
};

int64_t Weight(const Quantities& q, int32_t index) { return q.weights[static_cast<size_t>(index)]; }
int64_t Input(const Quantities& q, int32_t index) {
  return int64_t{q.input.values[static_cast<size_t>(index)]} - q.input.zero_point;
}

// The 32-bit sum of output (batch, y, x, channel).
int64_t WindowSum(const Quantities& q, int32_t batch, int32_t y, int32_t x, int32_t channel, int32_t pad_top,
                  int32_t pad_left) {
  const Layer& layer = q.layer;
  const int32_t height = q.input.dims[1], width = q.input.dims[2], channels = q.input.dims[3];
  const bool depthwise = layer.kind == OpKind::kDepthwise;
  const int32_t depth = depthwise ? 1 : channels / layer.groups;
  const int32_t first =
      depthwise ? channel / (layer.out_channels / channels) : channel / (layer.out_channels / layer.groups) * depth;
  int64_t sum = q.bias.empty() ? 0 : q.bias[static_cast<size_t>(channel)];
  for (int32_t i = 0; i < layer.kernel_height; ++i) {
    for (int32_t j = 0; j < layer.kernel_width; ++j) {
      const int32_t in_y = y * layer.window.stride_height - pad_top + i * layer.window.dilation_height;
      const int32_t in_x = x * layer.window.stride_width - pad_left + j * layer.window.dilation_width;
      if (in_y < 0 || in_y >= height || in_x < 0 || in_x >= width) continue;
      const int32_t tap = i * layer.kernel_width + j;
      for (int32_t c = 0; c < depth; ++c) {
        const int32_t weight = depthwise ? tap * layer.out_channels + channel
                                         : (channel * layer.kernel_height * layer.kernel_width + tap) * depth + c;
        sum += Weight(q, weight) * Input(q, ((batch * height + in_y) * width + in_x) * channels + first + c);
      }
    }
  }
  return sum;
}

}  // namespace

std::vector<int8_t> LayerMaker::Values(size_t count, int32_t low, int32_t high) {
  std::vector<int8_t> values(count);
  for (int8_t& value : values) value = static_cast<int8_t>(Between(low, high));
  return values;
}

Image LayerMaker::AddInput(FakeGraph* graph, const std::vector<int32_t>& dims) {
  Image image;
  image.dims = dims;
  size_t count = 1;
  for (const int32_t size : dims) count *= static_cast<size_t>(size);
  image.values = Values(count, -128, 127);
  image.tensor = graph->AddTensor("input", abi::Type::kInt8, dims, {image.scale}, image.zero_point);
  graph->Fill(image.tensor, image.values);
  return image;
}

Image LayerMaker::AddLayer(FakeGraph* graph, const Layer& layer, const Image& input) {
  const int32_t channels = input.dims.back();
  const int32_t out = layer.out_channels;
  std::vector<int32_t> weight_dims;
  int32_t axis = 0;
  switch (layer.kind) {
    case OpKind::kConv:
      weight_dims = {out, layer.kernel_height, layer.kernel_width, channels / layer.groups};
      break;
    case OpKind::kDepthwise:
      weight_dims = {1, layer.kernel_height, layer.kernel_width, out};
      axis = 3;
      break;
    case OpKind::kDense:
      weight_dims = {out, channels};
      break;
    default:
      break;
  }
  size_t weight_count = 1;
  for (const int32_t size : weight_dims) weight_count *= static_cast<size_t>(size);
  const std::vector<int8_t> weights =
      Values(weight_count, layer.weight_bits == 4 ? -8 : -128, layer.weight_bits == 4 ? 7 : 127);
  std::vector<float> scales(layer.per_channel ? static_cast<size_t>(out) : 1);
  for (float& scale : scales) scale = static_cast<float>(Between(10, 50)) * (layer.weight_bits == 4 ? 1e-3f : 6e-5f);
  std::vector<int32_t> bias(layer.has_bias ? static_cast<size_t>(out) : 0);
  for (int32_t& value : bias) value = Between(-2000, 2000);

  const std::vector<uint8_t> packed = PackValues(weights, layer.weight_bits);
  std::vector<int32_t> inputs = {
      input.tensor, graph->AddConstant("weights", layer.weight_bits == 4 ? abi::Type::kInt4 : abi::Type::kInt8,
                                       weight_dims, scales, axis, packed.data(), packed.size())};
  if (layer.has_bias) {
    inputs.push_back(graph->AddConstant("bias", abi::Type::kInt32, {out}, {}, 0, bias.data(), 4 * bias.size()));
  } else {
    inputs.push_back(abi::kOptionalTensor);
  }

  Image output;
  output.scale = 0.2f;
  output.zero_point = layer.output_zero_point;
  const Quantities q = {layer, input, weights, bias};
  std::vector<int64_t> sums;
  if (layer.kind == OpKind::kDense) {
    const int32_t rows = static_cast<int32_t>(input.values.size()) / channels;
    output.dims = layer.keep_num_dims ? std::vector<int32_t>(input.dims.begin(), input.dims.end() - 1)
                                      : std::vector<int32_t>{rows};
    output.dims.push_back(out);
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t n = 0; n < out; ++n) {
        int64_t sum = bias.empty() ? 0 : bias[static_cast<size_t>(n)];
        for (int32_t c = 0; c < channels; ++c) sum += Weight(q, n * channels + c) * Input(q, row * channels + c);
        sums.push_back(sum);
      }
    }
  } else {
    int32_t height, width, pad_top, pad_left;
    const bool same = layer.window.padding == abi::Padding::kSame;
    Extent(input.dims[1], layer.kernel_height, layer.window.stride_height, layer.window.dilation_height, same, &height,
           &pad_top);
    Extent(input.dims[2], layer.kernel_width, layer.window.stride_width, layer.window.dilation_width, same, &width,
           &pad_left);
    output.dims = {input.dims[0], height, width, out};
    for (int32_t b = 0; b < input.dims[0]; ++b) {
      for (int32_t y = 0; y < height; ++y) {
        for (int32_t x = 0; x < width; ++x) {
          for (int32_t n = 0; n < out; ++n) sums.push_back(WindowSum(q, b, y, x, n, pad_top, pad_left));
        }
      }
    }
  }
  output.tensor = graph->AddTensor("output", abi::Type::kInt8, output.dims, {output.scale}, output.zero_point);

  int32_t node = 0;
  switch (layer.kind) {
    case OpKind::kConv:
      node =
          graph->AddNode(abi::kConv2D, inputs, output.tensor,
                         abi::ConvParams{layer.window.padding, layer.window.stride_width, layer.window.stride_height,
                                         layer.activation, layer.window.dilation_width, layer.window.dilation_height});
      break;
    case OpKind::kDepthwise:
      node = graph->AddNode(abi::kDepthwiseConv2D, inputs, output.tensor,
                            abi::DepthwiseParams{layer.window.padding, layer.window.stride_width,
                                                 layer.window.stride_height, out / channels, layer.activation,
                                                 layer.window.dilation_width, layer.window.dilation_height});
      break;
    case OpKind::kDense:
      node = graph->AddNode(abi::kFullyConnected, inputs, output.tensor,
                            abi::DenseParams{layer.activation, 0, layer.keep_num_dims, false});
      break;
    default:
      break;
  }

  // The scales' arithmetic has tests of its own (requantize_test); what is checked here are the sums and their places.
  NodeView view;
  WhyDeclined(*graph->context(), graph->node(node), graph->registration(node), Options(), &view);
  const ChannelScales channel_scales = MakeChannelScales(view);
  const int64_t rows = static_cast<int64_t>(sums.size()) / out;
  const int64_t depth = static_cast<int64_t>(weight_count) / out;
  const Rounding rounding = layer.kind == OpKind::kDepthwise ? RoundingOfDepthwise(Match::kLiteRt, layer.weight_bits)
                            : layer.groups > 1
                                ? RoundingOfGroupedConv(Match::kLiteRt, layer.weight_bits)
                                : RoundingOfProduct(Match::kLiteRt, layer.kind, layer.weight_bits, rows, out, depth);
  const OutputStage stage = MakeOutputStage(view, rounding);
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t n = i % static_cast<size_t>(out);
    output.values.push_back(OracleOutput(sums[i], channel_scales.multiplier[n], channel_scales.shift[n], stage,
                                         static_cast<int32_t>(n), out));
  }
  return output;
}

}  // namespace tfq::int4
