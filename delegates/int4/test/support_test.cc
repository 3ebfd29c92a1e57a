// What is taken, and that each thing that is not is declined with a reason that names it.
#include "delegates/int4/support.h"

#include <gtest/gtest.h>

#include <functional>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/test/layers.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kWeights = 1;  // tensors of a graph with one layer
constexpr int32_t kBias = 2;
constexpr int32_t kOutput = 3;

std::string Reason(FakeGraph* graph) {
  NodeView view;
  return WhyDeclined(*graph->context(), graph->node(0), graph->registration(0), Options(), &view);
}

abi::ConvParams& ConvOf(FakeGraph* graph) { return *static_cast<abi::ConvParams*>(graph->node(0).builtin_data); }

struct Case {
  const char* reason;
  std::function<void(FakeGraph*)> change;
  OpKind kind = OpKind::kConv;
};

TEST(Support, DeclinesWithTheReason) {
  const Case cases[] = {
      {"op not supported", [](FakeGraph* g) { g->registration(0).builtin_code = 28; }},
      {"another delegate has taken it",
       [](FakeGraph* g) { g->node(0).delegate = reinterpret_cast<abi::Delegate*>(1); }},
      {"it has no parameters", [](FakeGraph* g) { g->node(0).builtin_data = nullptr; }},
      {"it has no weights", [](FakeGraph* g) { g->node(0).inputs->data[1] = -1; }},
      {"weights 'weights' are INT2, not INT4 or INT8",
       [](FakeGraph* g) { g->tensor(kWeights).type = abi::Type::kInt2; }},
      {"weights 'weights' have 144 bytes, 288 needed",
       [](FakeGraph* g) { g->tensor(kWeights).type = abi::Type::kInt8; }},
      {"output 'output' is INT8, not FLOAT32 like the input",
       [](FakeGraph* g) { g->tensor(0).type = abi::Type::kFloat32; }},
      {"it has FLOAT32 activations, not INT8",
       [](FakeGraph* g) { g->tensor(0).type = g->tensor(kOutput).type = abi::Type::kFloat32; }, OpKind::kDepthwise},
      {"2 groups, taken with integer activations alone",
       [](FakeGraph* g) {
         g->tensor(0).type = g->tensor(kOutput).type = abi::Type::kFloat32;
         g->tensor(0).dims->data[3] = 8;
       }},
      {"weights 'weights' are INT8, not INT4, for FLOAT32 activations",
       [](FakeGraph* g) {
         g->tensor(0).type = g->tensor(kOutput).type = abi::Type::kFloat32;
         g->tensor(kWeights).type = abi::Type::kInt8;
       },
       OpKind::kDense},
      {"bias 'bias' is INT32, not FLOAT32",
       [](FakeGraph* g) { g->tensor(0).type = g->tensor(kOutput).type = abi::Type::kFloat32; }, OpKind::kDense},
      {"input 'input' is UINT8, not INT8, INT16 or FLOAT32",
       [](FakeGraph* g) { g->tensor(0).type = abi::Type::kUInt8; }},
      {"output 'output' is INT16, not INT8 like the input",
       [](FakeGraph* g) { g->tensor(kOutput).type = abi::Type::kInt16; }},
      {"weights 'weights' are not a constant of the file",
       [](FakeGraph* g) { g->tensor(kWeights).allocation_type = abi::AllocationType::kArena; }},
      {"weights 'weights' are sparse", [](FakeGraph* g) { g->tensor(kWeights).sparsity = g; }},
      {"weights are shuffled (format 1)",
       [](FakeGraph* g) { static_cast<abi::DenseParams*>(g->node(0).builtin_data)->weights_format = 1; },
       OpKind::kDense},
      {"weights 'weights' have rank 3, not 4", [](FakeGraph* g) { g->tensor(kWeights).dims->size = 3; }},
      {"input 'input' has rank 3, not 4", [](FakeGraph* g) { g->tensor(0).dims->size = 3; }},
      {"weights 'weights' have a dimension of 0", [](FakeGraph* g) { g->tensor(kWeights).dims->data[1] = 0; }},
      {"weights 'weights' have 3 bytes, 144 needed", [](FakeGraph* g) { g->tensor(kWeights).bytes = 3; }},
      {"weights 'weights' have more than 2^31 values",
       [](FakeGraph* g) { g->tensor(kWeights).dims->data[1] = 100000000; }},
      {"depthwise weights 'weights' have a first dimension of 2",
       [](FakeGraph* g) {
         g->tensor(kWeights).dims->data[0] = 2;
         g->tensor(kWeights).dims->data[3] = 2;
       },
       OpKind::kDepthwise},
      {"input has 5 channels, weights 4: not whole groups", [](FakeGraph* g) { g->tensor(0).dims->data[3] = 5; }},
      {"8 output channels do not divide into 3 groups", [](FakeGraph* g) { g->tensor(0).dims->data[3] = 12; }},
      {"8 output channels are no multiple of 3 input channels", [](FakeGraph* g) { g->tensor(0).dims->data[3] = 3; },
       OpKind::kDepthwise},
      {"input is no whole number of rows of 4 features", [](FakeGraph* g) { g->tensor(0).dims->data[1] = 5; },
       OpKind::kDense},
      {"strides are 0x1", [](FakeGraph* g) { ConvOf(g).stride_height = 0; }},
      {"dilations are 1x-1", [](FakeGraph* g) { ConvOf(g).dilation_width = -1; }},
      {"padding is unknown", [](FakeGraph* g) { ConvOf(g).padding = abi::Padding::kUnknown; }},
      {"fused activation tanh (taken: none, relu, relu6, relu_n1_to_1)",
       [](FakeGraph* g) { ConvOf(g).activation = abi::Activation::kTanh; }},
      {"weights 'weights' carry no scales that this runtime knows (blockwise ones arrive so in 2.14)",
       [](FakeGraph* g) { g->tensor(kWeights).quantization.type = abi::QuantizationType::kNone; }},
      {"weights 'weights' are quantized along several axes",
       [](FakeGraph* g) { g->tensor(kWeights).quantization.type = abi::QuantizationType::kMultiAxis; }},
      {"weights 'weights' have 7 scales for 8 output channels",
       [](FakeGraph* g) {
         static_cast<abi::AffineQuantization*>(g->tensor(kWeights).quantization.params)->scale->size = 7;
       }},
      {"weights 'weights' are quantized along axis 1, not along axis 0",
       [](FakeGraph* g) {
         static_cast<abi::AffineQuantization*>(g->tensor(kWeights).quantization.params)->quantized_dimension = 1;
       }},
      {"weights 'weights' have a zero point of 2, not 0",
       [](FakeGraph* g) {
         static_cast<abi::AffineQuantization*>(g->tensor(kWeights).quantization.params)->zero_point->data[5] = 2;
       }},
      {"bias 'bias' is INT64, not INT32", [](FakeGraph* g) { g->tensor(kBias).type = abi::Type::kInt64; }},
      {"bias 'bias' is not a constant of the file",
       [](FakeGraph* g) { g->tensor(kBias).allocation_type = abi::AllocationType::kArena; }},
      {"bias 'bias' has 7 values for 8 output channels", [](FakeGraph* g) { g->tensor(kBias).bytes = 28; }},
      {"input 'input' carries no scale",
       [](FakeGraph* g) { g->tensor(0).quantization.type = abi::QuantizationType::kNone; }},
      {"input 'input' has a zero point of 200, outside int8",
       [](FakeGraph* g) { g->tensor(0).params.zero_point = 200; }},
      {"output 'output' has a scale of 0", [](FakeGraph* g) { g->tensor(kOutput).params.scale = 0; }},
      {"scale 0 of weights 'weights' is 1e+12, out of range with those of input and output",
       [](FakeGraph* g) {
         static_cast<abi::AffineQuantization*>(g->tensor(kWeights).quantization.params)->scale->data[0] = 1e12f;
       }},
  };
  for (const Case& declined : cases) {
    FakeGraph graph;
    LayerMaker maker(1);
    Layer layer;
    layer.kind = declined.kind;
    const std::vector<int32_t> dims =
        declined.kind == OpKind::kDense ? std::vector<int32_t>{2, 4} : std::vector<int32_t>{1, 6, 6, 4};
    maker.AddLayer(&graph, layer, maker.AddInput(&graph, dims));
    ASSERT_EQ(Reason(&graph), "");
    declined.change(&graph);
    EXPECT_EQ(Reason(&graph), declined.reason);
    if (graph.tensor(kWeights).sparsity != nullptr) graph.tensor(kWeights).sparsity = nullptr;
  }
}

// A dense layer of 8 outputs and 64 inputs whose weights are in blocks, with floating-point activations.
class BlockGraph {
 public:
  BlockGraph() {
    LayerMaker maker(1);
    Layer layer;
    layer.kind = OpKind::kDense;
    layer.has_bias = false;
    maker.AddLayer(&graph_, layer, maker.AddInput(&graph_, {2, 64}));
    const std::vector<uint16_t> scales(16, 0x2c00);
    blocks_.scale_tensor =
        graph_.AddConstant("scales", abi::Type::kFloat16, {8, 2}, {}, 0, scales.data(), 2 * scales.size());
    graph_.tensor(0).type = graph_.tensor(2).type = abi::Type::kFloat32;
    kept_ = weights().quantization;
    weights().quantization = {abi::QuantizationType::kBlockwise, &blocks_};
  }
  ~BlockGraph() { weights().quantization = kept_; }

  FakeGraph* graph() { return &graph_; }
  abi::Tensor& weights() { return graph_.tensor(kWeights); }
  abi::Tensor& scales() { return graph_.tensor(3); }
  abi::BlockwiseQuantization& blocks() { return blocks_; }

 private:
  FakeGraph graph_;
  abi::BlockwiseQuantization blocks_ = {0, -1, 32, 0};
  abi::Quantization kept_;
};

TEST(Support, TakesBlocksAndSaysWhichItDoesNot) {
  struct BlockCase {
    const char* reason;
    std::function<void(BlockGraph*)> change;
  };
  const BlockCase cases[] = {
      {"", [](BlockGraph*) {}},
      {"weights 'weights' are quantized in blocks of 32, taken of dense layers with floating-point activations",
       [](BlockGraph* g) { g->graph()->tensor(0).type = g->graph()->tensor(2).type = abi::Type::kInt8; }},
      {"weights 'weights' are quantized in blocks of 16, not a multiple of 32 up to 256",
       [](BlockGraph* g) { g->blocks().block_size = 16; }},
      {"weights 'weights' are quantized in blocks of 512, not a multiple of 32 up to 256",
       [](BlockGraph* g) { g->blocks().block_size = 512; }},
      {"weights 'weights' are quantized in blocks of 96, which do not divide 64 inputs",
       [](BlockGraph* g) { g->blocks().block_size = 96; }},
      {"weights 'weights' are quantized in blocks of 32 along axis 2",
       [](BlockGraph* g) { g->blocks().quantized_dimension = 2; }},
      {"weights 'weights' are quantized in blocks of 32 with zero points",
       [](BlockGraph* g) { g->blocks().zero_point_tensor = 3; }},
      {"weights 'weights' are quantized in blocks of 32, whose scales are not a constant of the file",
       [](BlockGraph* g) { g->blocks().scale_tensor = 77; }},
      {"weights 'weights' are quantized in blocks of 32, whose scales are not a constant of the file",
       [](BlockGraph* g) { g->scales().allocation_type = abi::AllocationType::kArena; }},
      {"weights 'weights' are quantized in blocks of 32, whose scales are FLOAT32, not FLOAT16",
       [](BlockGraph* g) { g->scales().type = abi::Type::kFloat32; }},
      {"weights 'weights' are quantized in blocks of 32, with 15 scales, not 16",
       [](BlockGraph* g) { g->scales().bytes = 30; }},
  };
  for (const BlockCase& c : cases) {
    BlockGraph graph;
    c.change(&graph);
    EXPECT_EQ(Reason(graph.graph()), c.reason);
  }
}

TEST(Support, DeclinesWhatOnlyTheReferenceComputes) {
  for (const CpuTier cap : {CpuTier::kReference, BestCpuTier()}) {
    BlockGraph graph;
    Options options;
    options.cpu = cap;
    NodeView view;
    const std::string reason =
        WhyDeclined(*graph.graph()->context(), graph.graph()->node(0), graph.graph()->registration(0), options, &view);
    const bool slow = cap != CpuTier::kReference && ChooseDynamicGemm(cap, kQs4b, {1, 1})->tier == CpuTier::kReference;
    EXPECT_EQ(reason, slow ? "no fast kernel for FLOAT32 activations and INT4 weights on this CPU" : "");
  }
}

TEST(Support, ReadsTheParametersOfEachOperator) {
  for (const OpKind kind : {OpKind::kConv, OpKind::kDepthwise}) {
    FakeGraph graph;
    LayerMaker maker(1);
    Layer layer;
    layer.kind = kind;
    layer.window = {abi::Padding::kValid, 2, 3, 1, 2};
    layer.activation = abi::Activation::kRelu6;
    maker.AddLayer(&graph, layer, maker.AddInput(&graph, {1, 12, 12, 4}));
    NodeView view;
    ASSERT_EQ(WhyDeclined(*graph.context(), graph.node(0), graph.registration(0), Options(), &view), "");
    EXPECT_EQ(view.kind, kind);
    EXPECT_EQ(view.window.padding, abi::Padding::kValid);
    EXPECT_EQ(view.window.stride_height, 2);
    EXPECT_EQ(view.window.stride_width, 3);
    EXPECT_EQ(view.window.dilation_height, 1);
    EXPECT_EQ(view.window.dilation_width, 2);
    EXPECT_EQ(view.activation, abi::Activation::kRelu6);
    EXPECT_EQ(view.out_channels(), 8);
    ASSERT_EQ(view.outputs.size(), 1u);
    EXPECT_EQ(view.outputs[0].index, kOutput);
  }
}

TEST(Support, ABiasIsOptional) {
  FakeGraph graph;
  LayerMaker maker(1);
  Layer layer;
  layer.has_bias = false;
  maker.AddLayer(&graph, layer, maker.AddInput(&graph, {1, 6, 6, 4}));
  NodeView view;
  ASSERT_EQ(WhyDeclined(*graph.context(), graph.node(0), graph.registration(0), Options(), &view), "");
  EXPECT_EQ(view.bias(), nullptr);
}

}  // namespace
}  // namespace tfq::int4
