// The whole delegate in a runtime of our own: random layers, chains and resized inputs against plain loops.
#include "delegates/int4/delegate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/test/layers.h"

namespace tfq::int4 {
namespace {

std::vector<CpuTier> Tiers() {
  std::vector<CpuTier> tiers;
  for (const CpuTier tier : {CpuTier::kReference, CpuTier::kNeon, CpuTier::kNeonDotprod, CpuTier::kAvx2,
                             CpuTier::kAvx512Vnni, CpuTier::kAvx512Amx}) {
    if (CpuRuns(tier)) tiers.push_back(tier);
  }
  return tiers;
}

Options MakeOptions(CpuTier tier, int32_t threads) {
  Options options;
  options.cpu = tier;
  options.threads = threads;
  options.match = Match::kLiteRt;
  return options;
}

// A delegate on a graph; its line on stderr is kept out of the test's output.
class Applied {
 public:
  Applied(const Options& options, FakeGraph* graph) : delegate_(options) {
    testing::internal::CaptureStderr();
    status_ = delegate_.get()->Prepare(graph->context(), delegate_.get());
    said_ = testing::internal::GetCapturedStderr();
  }
  abi::Status status() const { return status_; }
  const std::string& said() const { return said_; }

 private:
  Int4Delegate delegate_;
  abi::Status status_;
  std::string said_;
};

void ExpectOutput(FakeGraph* graph, const Image& expected) {
  EXPECT_EQ(graph->Dims(expected.tensor), expected.dims);
  EXPECT_EQ(graph->Values(expected.tensor), expected.values);
}

// Whether this tier has kernels of its own for 8-bit weights; where it has none the nodes are declined.
bool TakesEightBits(CpuTier tier) {
  return tier == CpuTier::kReference || (ChooseDepthwise(tier, kQs8cw)->tier != CpuTier::kReference &&
                                         ChooseGemm(tier, kQs8cw, {1, 1})->tier != CpuTier::kReference);
}

// A random layer that fits behind an input of these dimensions.
Layer RandomLayer(LayerMaker* maker, const std::vector<int32_t>& dims, bool eight_bits) {
  constexpr abi::Activation kActivations[] = {abi::Activation::kNone, abi::Activation::kRelu, abi::Activation::kRelu6,
                                              abi::Activation::kReluN1To1};
  Layer layer;
  const int32_t channels = dims.back();
  layer.kind = static_cast<OpKind>(maker->Between(0, 2));
  layer.kernel_height = maker->Between(1, 4);
  layer.kernel_width = maker->Between(1, 4);
  layer.groups = layer.kind == OpKind::kConv && channels % 2 == 0 && maker->Between(0, 4) == 0 ? 2 : 1;
  layer.out_channels =
      layer.kind == OpKind::kDepthwise ? channels * maker->Between(1, 2) : layer.groups * maker->Between(1, 20);
  layer.window = {static_cast<abi::Padding>(maker->Between(1, 2)), maker->Between(1, 2), maker->Between(1, 2),
                  maker->Between(1, 2), maker->Between(1, 2)};
  const bool fits = dims[1] > (layer.kernel_height - 1) * layer.window.dilation_height &&
                    dims[2] > (layer.kernel_width - 1) * layer.window.dilation_width;
  if (!fits) layer.window.padding = abi::Padding::kSame;
  layer.activation = kActivations[maker->Between(0, 3)];
  layer.per_channel = maker->Between(0, 3) != 0;
  layer.weight_bits = maker->Between(0, 1) == 0 || !eight_bits ? 4 : 8;
  layer.has_bias = maker->Between(0, 3) != 0;
  layer.keep_num_dims = true;
  layer.output_zero_point = maker->Between(-20, 20);
  return layer;
}

TEST(Delegate, RandomChainsEqualPlainLoopsAtEveryTier) {
  for (const CpuTier tier : Tiers()) {
    for (uint32_t seed = 0; seed < 60; ++seed) {
      SCOPED_TRACE(std::string(CpuTierName(tier)) + " seed " + std::to_string(seed));
      LayerMaker maker(seed);
      FakeGraph graph;
      Image image =
          maker.AddInput(&graph, {maker.Between(1, 2), maker.Between(1, 9), maker.Between(1, 9), maker.Between(1, 20)});
      const int32_t layers = maker.Between(1, 4);
      for (int32_t i = 0; i < layers; ++i) {
        image = maker.AddLayer(&graph, RandomLayer(&maker, image.dims, TakesEightBits(tier)), image);
      }
      const Applied applied(MakeOptions(tier, static_cast<int32_t>(seed % 3) + 1), &graph);
      ASSERT_EQ(applied.status(), abi::Status::kOk);
      EXPECT_EQ(graph.kernels(), 1u);
      ASSERT_EQ(graph.Prepare(), abi::Status::kOk) << graph.errors();
      for (int32_t round = 0; round < 2; ++round) {
        ASSERT_EQ(graph.Invoke(), abi::Status::kOk) << graph.errors();
        ExpectOutput(&graph, image);
      }
    }
  }
}

TEST(Delegate, DeclinesWhatItWouldRunSlowerThanTheRuntime) {
  for (const CpuTier tier : Tiers()) {
    LayerMaker maker(11);
    FakeGraph graph;
    Image image = maker.AddInput(&graph, {1, 8, 8, 4});
    Layer layer;
    layer.kind = OpKind::kDepthwise;
    layer.out_channels = 4;
    layer.weight_bits = 8;
    maker.AddLayer(&graph, layer, image);
    const Applied applied(MakeOptions(tier, 1), &graph);
    EXPECT_EQ(graph.kernels(), TakesEightBits(tier) ? 1u : 0u) << CpuTierName(tier);
    EXPECT_EQ(applied.said().find("no fast kernel for INT8 activations and INT8 weights") == std::string::npos,
              TakesEightBits(tier))
        << applied.said();
  }
}

TEST(Delegate, SharesLargeLayersAmongThreads) {
  for (const OpKind kind : {OpKind::kConv, OpKind::kDepthwise, OpKind::kDense}) {
    LayerMaker maker(3);
    FakeGraph graph;
    Layer layer;
    layer.kind = kind;
    layer.out_channels = kind == OpKind::kDense ? 700 : 64;
    const std::vector<int32_t> dims =
        kind == OpKind::kDense ? std::vector<int32_t>{1, 900} : std::vector<int32_t>{1, 40, 41, 32};
    const Image output = maker.AddLayer(&graph, layer, maker.AddInput(&graph, dims));
    const Applied applied(MakeOptions(BestCpuTier(), 3), &graph);
    ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
    ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
    ExpectOutput(&graph, output);
  }
}

TEST(Delegate, TensorsBetweenItsNodesStayWithoutMemory) {
  LayerMaker maker(5);
  FakeGraph graph;
  const Image input = maker.AddInput(&graph, {1, 8, 8, 4});
  const Image first = maker.AddLayer(&graph, Layer(), input);
  const Image second = maker.AddLayer(&graph, Layer(), first);
  const Image beside = maker.AddLayer(&graph, Layer(), first);
  const Applied applied(MakeOptions(BestCpuTier(), 1), &graph);
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
  EXPECT_TRUE(graph.Values(first.tensor).empty());
  ExpectOutput(&graph, second);
  ExpectOutput(&graph, beside);
}

TEST(Delegate, ATensorThatLeavesIsAlsoReadInside) {
  LayerMaker maker(6);
  FakeGraph graph;
  const Image first = maker.AddLayer(&graph, Layer(), maker.AddInput(&graph, {1, 8, 8, 4}));
  const Image second = maker.AddLayer(&graph, Layer(), first);
  const int32_t tanh = graph.AddTensor("tanh", abi::Type::kInt8, first.dims, {1.0f / 256}, -128);
  graph.AddNode(28, {first.tensor}, tanh, 0);
  const Applied applied(MakeOptions(BestCpuTier(), 1), &graph);
  EXPECT_EQ(graph.kernels(), 1u);
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
  ExpectOutput(&graph, first);
  ExpectOutput(&graph, second);
}

TEST(Delegate, FollowsAResizedInput) {
  // The same weights twice, built for two sizes: one graph is resized to the other's input.
  const auto build = [](FakeGraph* graph, int32_t batch, int32_t size, Image* input) {
    LayerMaker maker(11);
    Layer layer;
    layer.window.stride_height = layer.window.stride_width = 2;
    *input = maker.AddInput(graph, {1, 1, 1, 4});
    input->dims = {batch, size, size, 4};
    input->values =
        LayerMaker(static_cast<uint32_t>(size)).Values(static_cast<size_t>(batch * size * size * 4), -128, 127);
    graph->Resize(input->tensor, input->dims);
    graph->Fill(input->tensor, input->values);
    const Image middle = maker.AddLayer(graph, layer, *input);
    layer.kind = OpKind::kDepthwise;
    return maker.AddLayer(graph, layer, middle);
  };
  FakeGraph graph, other;
  Image input, other_input;
  const Image output = build(&graph, 1, 9, &input);
  const Image other_output = build(&other, 3, 16, &other_input);
  const Applied applied(MakeOptions(BestCpuTier(), 2), &graph);
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
  ExpectOutput(&graph, output);

  graph.Resize(input.tensor, other_input.dims);
  graph.Fill(input.tensor, other_input.values);
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
  EXPECT_EQ(graph.Dims(output.tensor), other_output.dims);
  EXPECT_EQ(graph.Values(output.tensor), other_output.values);

  graph.Resize(input.tensor, input.dims);
  graph.Fill(input.tensor, input.values);
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
  ExpectOutput(&graph, output);
}

TEST(Delegate, RefusesAnInputThatDoesNotFit) {
  LayerMaker maker(2);
  FakeGraph graph;
  Layer layer;
  layer.window.padding = abi::Padding::kValid;
  const Image input = maker.AddInput(&graph, {1, 8, 8, 4});
  maker.AddLayer(&graph, layer, input);
  const Applied applied(MakeOptions(BestCpuTier(), 1), &graph);
  struct Case {
    std::vector<int32_t> dims;
    const char* problem;
  };
  const Case cases[] = {
      {{1, 2, 8, 4}, "tfq int4: CONV_2D (node 0): a window of 3x3 (dilated by 1x1) does not fit 2x8 pixels"},
      {{1, 8, 8, 5}, "tfq int4: CONV_2D (node 0): input has 5 channels, 4 expected"},
      {{1, 0, 8, 4}, "tfq int4: CONV_2D (node 0): input of 0x8 pixels"},
  };
  for (const Case& bad : cases) {
    graph.Resize(input.tensor, bad.dims);
    EXPECT_EQ(graph.Prepare(), abi::Status::kError);
    EXPECT_NE(graph.errors().find(bad.problem), std::string::npos) << graph.errors();
  }
}

TEST(Delegate, AnEmptyBatchGivesAnEmptyOutput) {
  LayerMaker maker(2);
  FakeGraph graph;
  const Image input = maker.AddInput(&graph, {1, 8, 8, 4});
  const Image output = maker.AddLayer(&graph, Layer(), input);
  const Applied applied(MakeOptions(BestCpuTier(), 2), &graph);
  graph.Resize(input.tensor, {0, 8, 8, 4});
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk);
  EXPECT_EQ(graph.Dims(output.tensor), (std::vector<int32_t>{0, 8, 8, 8}));
}

TEST(Delegate, SaysWhatItTookAndWhyNotTheRest) {
  LayerMaker maker(4);
  FakeGraph graph;
  Image image = maker.AddInput(&graph, {1, 8, 8, 4});
  for (int32_t i = 0; i < 3; ++i) image = maker.AddLayer(&graph, Layer(), image);
  graph.registration(1).builtin_code = 28;
  Options options = MakeOptions(BestCpuTier(), 1);
  options.verbose = true;
  options.report = testing::TempDir() + "tfq_delegate_test.json";
  const Applied applied(options, &graph);
  EXPECT_EQ(graph.kernels(), 2u);
  const std::string first = ChooseGemm(options.cpu, kQs4cw, {64, 9 * 4})->name;
  const std::string last = ChooseGemm(options.cpu, kQs4cw, {64, 9 * 8})->name;
  EXPECT_EQ(applied.said(),
            "tfq int4: took 2 of 3 nodes; declined: TANH (op not supported) x1\n"
            "tfq int4: node 0 CONV_2D: " +
                first +
                "\n"
                "tfq int4: node 1 TANH: declined, op not supported\n"
                "tfq int4: node 2 CONV_2D: " +
                last + "\n");
  std::stringstream text;
  text << std::ifstream(options.report).rdbuf();
  EXPECT_NE(text.str().find("\"delegated\": 2,\n  \"total\": 3,"), std::string::npos) << text.str();
  EXPECT_NE(text.str().find("\"packed_bytes\": 0,"), std::string::npos) << text.str();
  EXPECT_NE(text.str().find("\"op\": \"TANH\", \"reason\": \"op not supported\""), std::string::npos);

  // Once prepared it knows its memory too: two convolutions of 3x3 taps, 8 channels to 8, 4 bits each and no less.
  testing::internal::CaptureStderr();
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("tfq int4: partition of 1 nodes: "), std::string::npos);
  text.str("");
  text << std::ifstream(options.report).rdbuf();
  const size_t at = text.str().find("\"packed_bytes\": ");
  ASSERT_NE(at, std::string::npos) << text.str();
  EXPECT_GE(std::stoul(text.str().substr(at + 16)), 9u * (4 + 8) * 8 / 2);
  std::remove(options.report.c_str());
}

TEST(Delegate, SaysLoudlyThatItTookNothing) {
  LayerMaker maker(4);
  FakeGraph graph;
  maker.AddLayer(&graph, Layer(), maker.AddInput(&graph, {1, 8, 8, 4}));
  graph.tensor(1).type = abi::Type::kInt2;
  const Applied applied(MakeOptions(BestCpuTier(), 1), &graph);
  EXPECT_EQ(applied.status(), abi::Status::kOk);
  EXPECT_EQ(graph.kernels(), 0u);
  EXPECT_EQ(applied.said(),
            "tfq int4: WARNING, this delegate will not speed anything up: took 0 of 1 nodes; declined: "
            "CONV_2D (weights 'weights' are INT2, not INT4 or INT8) x1\n");
}

TEST(Delegate, OneOnEachThread) {
  const auto run = [](uint32_t seed) {
    LayerMaker maker(seed);
    FakeGraph graph;
    Image image = maker.AddInput(&graph, {1, 24, 24, 32});
    Layer layer;
    layer.out_channels = 32;
    for (int32_t i = 0; i < 2; ++i) image = maker.AddLayer(&graph, layer, image);
    Int4Delegate delegate(MakeOptions(BestCpuTier(), 2));
    EXPECT_EQ(delegate.get()->Prepare(graph.context(), delegate.get()), abi::Status::kOk);
    EXPECT_EQ(graph.Prepare(), abi::Status::kOk);
    for (int32_t round = 0; round < 5; ++round) {
      EXPECT_EQ(graph.Invoke(), abi::Status::kOk);
      EXPECT_EQ(graph.Values(image.tensor), image.values);
    }
  };
  std::thread other(run, 1);
  run(2);
  other.join();
}

}  // namespace
}  // namespace tfq::int4
