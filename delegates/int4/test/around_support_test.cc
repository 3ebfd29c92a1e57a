// What is declined of the operators around linear layers, with the reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>

#include "delegates/int4/support.h"
#include "delegates/int4/test/fake_graph.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kFirst = 0;  // tensors of the graph, in this order
constexpr int32_t kSecond = 1;
constexpr int32_t kOutput = 2;

constexpr float kScale = 0.5f;

struct Case {
  int32_t op;
  const char* reason;
  std::function<void(FakeGraph*)> change;
  Match match = Match::kLiteRt;
};

struct Constant {
  int32_t op;
  std::vector<int32_t> values;
  std::vector<int32_t> dims;
};

const Constant kConstants[] = {
    {abi::kMean, {1, 2}, {2}},
    {abi::kPad, {0, 0, 1, 1, 1, 1, 0, 0}, {4, 2}},
    {abi::kReshape, {1, 32}, {2}},
    {abi::kTranspose, {0, 2, 1, 3}, {4}},
};

union Params {
  abi::ArithmeticParams arithmetic;
  abi::PoolParams pool;
  abi::ConcatenationParams concatenation;
  abi::ReducerParams reducer;
  abi::BatchMatmulParams matmul;
  abi::SoftmaxParams softmax;
};

Params MakeParams(int32_t op) {
  Params params = {};
  if (op == abi::kAveragePool2D || op == abi::kMaxPool2D) {
    params.pool = {abi::Padding::kSame, 1, 1, 2, 2, abi::Activation::kNone};
  }
  if (op == abi::kBatchMatmul) params.matmul = {0, 1, 0};
  if (op == abi::kSoftmax) params.softmax = {1};
  if (op == abi::kConcatenation) params.concatenation = {3, abi::Activation::kNone};
  return params;
}

// One node that is taken: int8 images of one scale, the constant that the operator needs, and its parameters.
void Build(int32_t op, FakeGraph* graph) {
  const std::vector<int32_t> image = {1, 4, 4, 2};
  graph->AddTensor("first", abi::Type::kInt8, image, {kScale}, op == abi::kRsqrt ? -128 : 3);
  graph->AddTensor("second", abi::Type::kInt8, image, {kScale}, 3);
  const bool share = op == abi::kLogistic || op == abi::kSoftmax;
  graph->AddTensor("output", abi::Type::kInt8, image,
                   {share             ? 1.0f / 256
                    : op == abi::kMul ? 2.0f
                                      : kScale},
                   share ? -128 : 3);
  std::vector<int32_t> inputs = {kFirst};
  constexpr int32_t kOfTwo[] = {abi::kAdd,           abi::kSub,         abi::kMul,
                                abi::kConcatenation, abi::kBatchMatmul, abi::kSquaredDifference};
  if (std::count(std::begin(kOfTwo), std::end(kOfTwo), op) != 0) inputs.push_back(kSecond);
  for (const Constant& constant : kConstants) {
    if (constant.op != op) continue;
    inputs.push_back(graph->AddConstant("constant", abi::Type::kInt32, constant.dims, {}, 0, constant.values.data(),
                                        4 * constant.values.size()));
  }
  graph->AddNode(op, inputs, kOutput, MakeParams(op));
}

NodeView Viewed(FakeGraph* graph) {
  NodeView view;
  EXPECT_EQ(WhyDeclined(*graph->context(), graph->node(0), graph->registration(0), Options(), &view), "");
  return view;
}

std::string Reason(FakeGraph* graph, Match match) {
  Options options;
  options.match = match;
  NodeView view;
  return WhyDeclined(*graph->context(), graph->node(0), graph->registration(0), options, &view);
}

void SetScale(FakeGraph* graph, int32_t tensor, float scale) { graph->tensor(tensor).params.scale = scale; }

int32_t* ConstantOf(FakeGraph* graph) { return static_cast<int32_t*>(graph->tensor(kOutput + 1).data); }

Params& ParamsOf(FakeGraph* graph) { return *static_cast<Params*>(graph->node(0).builtin_data); }

void MakeConstant(FakeGraph* graph, int32_t tensor) {
  graph->tensor(tensor).allocation_type = abi::AllocationType::kConstant;
}

TEST(AroundSupport, DeclinesWithTheReason) {
  const Case cases[] = {
      {abi::kAdd, "input 'second' is INT16, not INT8",
       [](FakeGraph* g) { g->tensor(kSecond).type = abi::Type::kInt16; }},
      {abi::kAdd, "output 'output' has a scale of 0", [](FakeGraph* g) { SetScale(g, kOutput, 0); }},
      {abi::kAdd, "input 'first' carries no scale",
       [](FakeGraph* g) { g->tensor(kFirst).quantization.type = abi::QuantizationType::kNone; }},
      {abi::kAdd, "input 'first' has a zero point of 300, outside int8",
       [](FakeGraph* g) { g->tensor(kFirst).params.zero_point = 300; }},
      {abi::kAdd, "it has no input or no output", [](FakeGraph* g) { g->node(0).inputs->size = 1; }},
      {abi::kAdd, "it has no parameters", [](FakeGraph* g) { g->node(0).builtin_data = nullptr; }},
      {abi::kAdd, "1x4x4x2 and 1x3x4x2 do not go together", [](FakeGraph* g) { g->tensor(kSecond).dims->data[1] = 3; }},
      {abi::kAdd, "fused activation tanh (taken: none, relu, relu6, relu_n1_to_1)",
       [](FakeGraph* g) { ParamsOf(g).arithmetic.activation = abi::Activation::kTanh; }},
      {abi::kAdd, "the larger scale of its inputs over that of its output is 100, outside 0.000976562 to 64",
       [](FakeGraph* g) { SetScale(g, kSecond, 50); }},
      {abi::kAdd, "scales of its inputs are too far apart", [](FakeGraph* g) { SetScale(g, kSecond, 1e-8f); }},
      {abi::kAdd, "scales of its inputs are too far apart", [](FakeGraph* g) { SetScale(g, kSecond, 1e-8f); },
       Match::kXnnpack},
      {abi::kSub, "1x4x4x2 and 1x3x4x2 do not go together", [](FakeGraph* g) { g->tensor(kSecond).dims->data[1] = 3; }},
      {abi::kSub, "the larger scale of its inputs over that of its output is 100, outside 0.000976562 to 64",
       [](FakeGraph* g) { SetScale(g, kSecond, 50); }},
      {abi::kSub, "fused activation tanh (taken: none, relu, relu6, relu_n1_to_1)",
       [](FakeGraph* g) { ParamsOf(g).arithmetic.activation = abi::Activation::kTanh; }},
      {abi::kMul, "1x4x4x2 and 1x4x3x2 do not go together", [](FakeGraph* g) { g->tensor(kSecond).dims->data[2] = 3; }},
      {abi::kMul, "scales of its inputs over that of its output is 2.5, outside 1e-09 to 0.5",
       [](FakeGraph* g) { SetScale(g, kOutput, 0.1f); }},
      {abi::kMul, "scales of its inputs over that of its output is 2.5e-10, outside 1e-09 to 0.5",
       [](FakeGraph* g) { SetScale(g, kOutput, 1e9f); }, Match::kXnnpack},
      {abi::kBatchMatmul, "its first factor is transposed (taken: the second, or none)",
       [](FakeGraph* g) { ParamsOf(g).matmul.adjoint_first = 1; }},
      {abi::kBatchMatmul, "it multiplies 1x4x4x2 by 1x4x4x2, which do not fit",
       [](FakeGraph* g) { ParamsOf(g).matmul.adjoint_second = 0; }},
      {abi::kBatchMatmul, "it multiplies 1x4x4x2 by 1x1x4x2 (taken: as many matrices on both sides)",
       [](FakeGraph* g) { g->tensor(kSecond).dims->data[1] = 1; }},
      {abi::kBatchMatmul, "it multiplies 1x4x4x65536 by 1x4x4x65536, which are too large",
       [](FakeGraph* g) {
         for (const int32_t tensor : {kFirst, kSecond}) g->tensor(tensor).dims->data[3] = 65536;
       }},
      {abi::kBatchMatmul, "scales of its factors over that of its output is 250, outside 5.96046e-08 to 128",
       [](FakeGraph* g) { SetScale(g, kOutput, 1e-3f); }},
      {abi::kSquaredDifference, "1x4x4x2 and 1x4x3x2 do not go together",
       [](FakeGraph* g) { g->tensor(kSecond).dims->data[2] = 3; }},
      {abi::kSquaredDifference, "65536x1x65536x2 and 1x65536x1x2 make more than 2^31 values",
       [](FakeGraph* g) {
         for (const int32_t axis : {0, 2}) g->tensor(kFirst).dims->data[axis] = 65536;
         g->tensor(kFirst).dims->data[1] = g->tensor(kSecond).dims->data[2] = 1;
         g->tensor(kSecond).dims->data[1] = 65536;
       }},
      {abi::kSquaredDifference, "scales of its inputs are too far apart",
       [](FakeGraph* g) { SetScale(g, kSecond, 1e-8f); }},
      {abi::kSquaredDifference,
       "the square of the larger scale of its inputs over the scale of its output is 2500, outside 1.52588e-05 to 2048",
       [](FakeGraph* g) { SetScale(g, kOutput, 1e-4f); }},
      {abi::kMaxPool2D, "input 'first' and output 'output' differ in scale or zero point",
       [](FakeGraph* g) { g->tensor(kOutput).params.zero_point = 4; }},
      {abi::kMaxPool2D, "input 'first' has rank 3, not 4", [](FakeGraph* g) { g->tensor(kFirst).dims->size = 3; }},
      {abi::kAveragePool2D, "its window is 0x2", [](FakeGraph* g) { ParamsOf(g).pool.filter_height = 0; }},
      {abi::kAveragePool2D, "strides are 1x0", [](FakeGraph* g) { ParamsOf(g).pool.stride_width = 0; }},
      {abi::kAveragePool2D, "padding is unknown",
       [](FakeGraph* g) { ParamsOf(g).pool.padding = abi::Padding::kUnknown; }},
      {abi::kMean, "its axes are 1x3 (taken: neighbours)", [](FakeGraph* g) { ConstantOf(g)[1] = 3; }},
      {abi::kMean, "it has no axes", [](FakeGraph* g) { g->tensor(kOutput + 1).bytes = 0; }},
      {abi::kMean, "axes 'constant' is not a constant of the file",
       [](FakeGraph* g) { g->tensor(kOutput + 1).allocation_type = abi::AllocationType::kArena; }},
      {abi::kPad, "it pads the batch or the channels (taken: rows and columns)",
       [](FakeGraph* g) { ConstantOf(g)[7] = 1; }},
      {abi::kPad, "paddings 'constant' are out of range", [](FakeGraph* g) { ConstantOf(g)[2] = -1; }},
      {abi::kPad, "paddings 'constant' is FLOAT32, not INT32",
       [](FakeGraph* g) { g->tensor(kOutput + 1).type = abi::Type::kFloat32; }},
      {abi::kConcatenation, "input 'second' and output 'output' differ in scale or zero point",
       [](FakeGraph* g) { SetScale(g, kSecond, 1); }},
      {abi::kConcatenation, "fused activation relu",
       [](FakeGraph* g) { ParamsOf(g).concatenation.activation = abi::Activation::kRelu; }},
      {abi::kReshape, "its shape is not a tensor", [](FakeGraph* g) { g->node(0).inputs->size = 1; }},
      {abi::kReshape, "its shape is -1x-1", [](FakeGraph* g) { ConstantOf(g)[0] = ConstantOf(g)[1] = -1; }},
      {abi::kReshape, "its shape is -2x32", [](FakeGraph* g) { ConstantOf(g)[0] = -2; }},
      {abi::kReshape, "its shape is 2147483647x32", [](FakeGraph* g) { ConstantOf(g)[0] = INT32_MAX; }},
      {abi::kTranspose, "its order is 0x1x1x3, for 4 axes", [](FakeGraph* g) { ConstantOf(g)[1] = 1; }},
      {abi::kTranspose, "order 'constant' is not a constant of the file",
       [](FakeGraph* g) { g->tensor(kOutput + 1).allocation_type = abi::AllocationType::kArena; }},
      {abi::kTranspose, "input 'first' and output 'output' differ in scale or zero point",
       [](FakeGraph* g) { SetScale(g, kOutput, 1); }},
      {abi::kRsqrt, "input 'first' has a zero point of -127, not -128: values may be negative",
       [](FakeGraph* g) { g->tensor(kFirst).params.zero_point = -127; }},
      {abi::kRsqrt,
       "the inverse root of the scale of its input over that of its output is 2.82843e+06, outside 0.00390625 to "
       "1.04858e+06",
       [](FakeGraph* g) { SetScale(g, kOutput, 5e-7f); }},
      {abi::kSoftmax, "its beta is -1 (taken: 0 and more)", [](FakeGraph* g) { ParamsOf(g).softmax.beta = -1; }},
      {abi::kSoftmax, "its beta is nan (taken: 0 and more)", [](FakeGraph* g) { ParamsOf(g).softmax.beta = NAN; }},
      {abi::kSoftmax, "input 'first' has no dimensions", [](FakeGraph* g) { g->tensor(kFirst).dims->size = 0; }},
      {abi::kSoftmax, "its rows have 32769 values (taken: 1 to 32768)",
       [](FakeGraph* g) { g->tensor(kFirst).dims->data[3] = 32769; }},
      {abi::kSoftmax, "output 'output' has a scale of 0.5 and a zero point of -128, not 1/256 and -128",
       [](FakeGraph* g) { SetScale(g, kOutput, 0.5f); }},
      {abi::kRelu6, "scale of its input over that of its output is 5000, outside 1.52588e-05 to 1024",
       [](FakeGraph* g) { SetScale(g, kOutput, 1e-4f); }},
      {abi::kHardSwish, "scale of its input over that of its output is 500, outside 0.000976562 to 127",
       [](FakeGraph* g) { SetScale(g, kOutput, 1e-3f); }},
      {abi::kLogistic, "output 'output' has a scale of 0.5 and a zero point of -128, not 1/256 and -128",
       [](FakeGraph* g) { SetScale(g, kOutput, 0.5f); }},
      {abi::kQuantize, "scale of its input over that of its output is 0.0005, outside 0.00390625 to 128",
       [](FakeGraph* g) { SetScale(g, kFirst, 2.5e-4f); }, Match::kXnnpack},
  };
  for (const Case& declined : cases) {
    FakeGraph graph;
    Build(declined.op, &graph);
    ASSERT_EQ(Reason(&graph, declined.match), "") << declined.op;
    declined.change(&graph);
    EXPECT_EQ(Reason(&graph, declined.match), declined.reason);
  }
}

TEST(AroundSupport, AProductWithAConstantOfOneValueIsATable) {
  FakeGraph graph;
  Build(abi::kMul, &graph);
  graph.Resize(kSecond, {1});
  const NodeView product = Viewed(&graph);
  EXPECT_EQ(std::string(product.op->kernel(product, Options())).find("vmul"), 0u);
  MakeConstant(&graph, kSecond);
  const NodeView by_constant = Viewed(&graph);
  EXPECT_EQ(std::string(by_constant.op->kernel(by_constant, Options())).find("vlut"), 0u);
}

}  // namespace
}  // namespace tfq::int4
