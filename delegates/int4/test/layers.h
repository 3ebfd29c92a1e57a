// Quantized layers for tests: random ones, added to a graph, and computed by plain loops straight from the definition.
#ifndef TFQ_DELEGATES_INT4_TEST_LAYERS_H_
#define TFQ_DELEGATES_INT4_TEST_LAYERS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "delegates/int4/support.h"
#include "delegates/int4/test/fake_graph.h"

namespace tfq::int4 {

struct Layer {
  OpKind kind = OpKind::kConv;
  int32_t out_channels = 8;  // a multiple of the input's for a depthwise layer
  int32_t kernel_height = 3;
  int32_t kernel_width = 3;
  int32_t groups = 1;
  WindowParams window = {abi::Padding::kSame, 1, 1, 1, 1};
  abi::Activation activation = abi::Activation::kNone;
  bool per_channel = true;
  int32_t weight_bits = 4;
  bool has_bias = true;
  bool keep_num_dims = false;
  int32_t output_zero_point = 3;
};

// A tensor of the graph with what it holds.
struct Image {
  int32_t tensor = 0;
  std::vector<int32_t> dims;
  std::vector<int8_t> values;
  float scale = 0.05f;
  int32_t zero_point = -4;
};

class LayerMaker {
 public:
  explicit LayerMaker(uint32_t seed) : engine_(seed) {}

  int32_t Between(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }
  std::vector<int8_t> Values(size_t count, int32_t low, int32_t high);

  // An input of the graph with random values.
  Image AddInput(FakeGraph* graph, const std::vector<int32_t>& dims);

  // Adds the layer with random weights behind `input`, and says what its output has to be.
  Image AddLayer(FakeGraph* graph, const Layer& layer, const Image& input);

 private:
  std::mt19937 engine_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_LAYERS_H_
