// Which nodes are worth taking, and what becomes of a PAD and of a RESHAPE.
#include "delegates/int4/rewrite.h"

#include <gtest/gtest.h>

#include "delegates/int4/delegate.h"
#include "delegates/int4/test/layers.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kTanh = 28;  // declined

Options LiteRtOptions() {
  Options options;
  options.cpu = BestCpuTier();
  options.match = Match::kLiteRt;
  return options;
}

// A delegate on a graph, run once.
class Applied {
 public:
  explicit Applied(FakeGraph* graph) : delegate_(LiteRtOptions()) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(delegate_.get()->Prepare(graph->context(), delegate_.get()), abi::Status::kOk);
    said_ = testing::internal::GetCapturedStderr();
    EXPECT_EQ(graph->Prepare(), abi::Status::kOk) << graph->errors();
    EXPECT_EQ(graph->Invoke(), abi::Status::kOk) << graph->errors();
  }
  const std::string& said() const { return said_; }

 private:
  Int4Delegate delegate_;
  std::string said_;
};

// A tensor with the scale and zero point of `like`.
int32_t AddLike(FakeGraph* graph, const Image& like, const std::vector<int32_t>& dims) {
  return graph->AddTensor("like", abi::Type::kInt8, dims, {like.scale}, like.zero_point);
}

int32_t AddIntegers(FakeGraph* graph, const std::vector<int32_t>& values, const std::vector<int32_t>& dims) {
  return graph->AddConstant("integers", abi::Type::kInt32, dims, {}, 0, values.data(), 4 * values.size());
}

Image AddPad(FakeGraph* graph, const Image& input, int32_t top, int32_t bottom, int32_t left, int32_t right) {
  Image padded = input;
  padded.dims = {input.dims[0], input.dims[1] + top + bottom, input.dims[2] + left + right, input.dims[3]};
  padded.values.clear();
  for (int32_t b = 0; b < padded.dims[0]; ++b) {
    for (int32_t y = -top; y < input.dims[1] + bottom; ++y) {
      for (int32_t x = -left; x < input.dims[2] + right; ++x) {
        const bool inside = y >= 0 && y < input.dims[1] && x >= 0 && x < input.dims[2];
        const int64_t from = ((int64_t{b} * input.dims[1] + y) * input.dims[2] + x) * input.dims[3];
        for (int32_t c = 0; c < input.dims[3]; ++c) {
          padded.values.push_back(inside ? input.values[static_cast<size_t>(from + c)]
                                         : static_cast<int8_t>(input.zero_point));
        }
      }
    }
  }
  padded.tensor = AddLike(graph, input, padded.dims);
  const int32_t amounts = AddIntegers(graph, {0, 0, top, bottom, left, right, 0, 0}, {4, 2});
  graph->AddNode(abi::kPad, {input.tensor, amounts}, padded.tensor, 0);
  return padded;
}

void ExpectOutput(FakeGraph* graph, const Image& expected) {
  EXPECT_EQ(graph->Dims(expected.tensor), expected.dims);
  EXPECT_EQ(graph->Values(expected.tensor), expected.values);
}

TEST(Rewrite, PadsAreFoldedIntoEveryConvolutionThatReadsThem) {
  for (const OpKind kind : {OpKind::kConv, OpKind::kDepthwise}) {
    for (const int32_t kernel : {1, 2, 3}) {
      for (const abi::Padding padding : {abi::Padding::kValid, abi::Padding::kSame}) {
        LayerMaker maker(static_cast<uint32_t>(kernel));
        FakeGraph graph;
        Layer layer;
        layer.kind = kind;
        layer.kernel_height = layer.kernel_width = kernel;
        layer.window = {padding, 2, 1, 1, 1};
        const Image first = maker.AddLayer(&graph, Layer(), maker.AddInput(&graph, {2, 5, 6, 4}));
        const Image padded = AddPad(&graph, first, 0, 1, 3, 2);
        const Image one = maker.AddLayer(&graph, layer, padded);
        const Image two = maker.AddLayer(&graph, Layer(), padded);
        const Applied applied(&graph);
        EXPECT_EQ(graph.kernels(), 1u);
        EXPECT_TRUE(graph.Values(padded.tensor).empty());
        ExpectOutput(&graph, one);
        ExpectOutput(&graph, two);
      }
    }
  }
}

TEST(Rewrite, APadThatIsReadOtherwiseStays) {
  LayerMaker maker(3);
  FakeGraph graph;
  const Image first = maker.AddLayer(&graph, Layer(), maker.AddInput(&graph, {1, 5, 6, 4}));
  const Image padded = AddPad(&graph, first, 1, 1, 1, 1);
  const Image convolved = maker.AddLayer(&graph, Layer(), padded);
  graph.AddNode(kTanh, {padded.tensor}, AddLike(&graph, padded, padded.dims), 0);
  const Applied applied(&graph);
  ExpectOutput(&graph, padded);
  ExpectOutput(&graph, convolved);
}

// The values of `input` under other dimensions.
Image AddReshape(FakeGraph* graph, const Image& input, const std::vector<int32_t>& wanted,
                 const std::vector<int32_t>& dims) {
  Image reshaped = input;
  reshaped.dims = dims;
  reshaped.tensor = AddLike(graph, input, dims);
  const int32_t shape = AddIntegers(graph, wanted, {static_cast<int32_t>(wanted.size())});
  graph->AddNode(abi::kReshape, {input.tensor, shape}, reshaped.tensor, 0);
  return reshaped;
}

TEST(Rewrite, AReshapeBetweenLayersIsAnAlias) {
  LayerMaker maker(4);
  FakeGraph graph;
  const Image input = maker.AddInput(&graph, {1, 4, 6, 4});
  const Image first = maker.AddLayer(&graph, Layer(), input);
  Layer dense;
  dense.kind = OpKind::kDense;
  // Read again behind what overwrites freed memory, first as itself and then under its other dimensions.
  const Image rows = AddReshape(&graph, first, {6, -1}, {6, 32});
  const Image other = maker.AddLayer(&graph, Layer(), first);
  const Image another = maker.AddLayer(&graph, Layer(), other);
  const Image output = maker.AddLayer(&graph, dense, rows);
  const Applied applied(&graph);
  EXPECT_EQ(graph.kernels(), 1u);
  EXPECT_TRUE(graph.Values(rows.tensor).empty());
  ExpectOutput(&graph, another);
  ExpectOutput(&graph, output);
}

TEST(Rewrite, AReshapeAtTheEdgesOfAPartition) {
  LayerMaker maker(5);
  FakeGraph graph;
  const Image input = maker.AddInput(&graph, {1, 4, 6, 4});
  const Image reshaped = AddReshape(&graph, input, {1, 6, 4, 4}, {1, 6, 4, 4});
  const Image middle = maker.AddLayer(&graph, Layer(), reshaped);
  const Image output = AddReshape(&graph, middle, {-1}, {192});
  const Applied applied(&graph);
  EXPECT_EQ(graph.kernels(), 1u);
  ExpectOutput(&graph, output);
}

TEST(Rewrite, OperatorsThatNothingTakesThemForAreLeft) {
  LayerMaker maker(6);
  FakeGraph graph;
  const Image input = maker.AddInput(&graph, {1, 4, 6, 4});
  const auto add_relu = [&](int32_t from) {
    const int32_t to = AddLike(&graph, input, input.dims);
    graph.AddNode(abi::kRelu, {from}, to, 0);
    return to;
  };
  const int32_t alone = add_relu(add_relu(input.tensor));
  const int32_t cut = AddLike(&graph, input, input.dims);
  graph.AddNode(kTanh, {alone}, cut, 0);
  graph.Resize(cut, input.dims);
  Image near = input;
  near.tensor = add_relu(add_relu(cut));
  maker.AddLayer(&graph, Layer(), near);
  const Applied applied(&graph);
  EXPECT_EQ(graph.kernels(), 1u);
  EXPECT_NE(applied.said().find("took 3 of 6 nodes"), std::string::npos) << applied.said();
  EXPECT_NE(applied.said().find("RELU (nothing that it is worth taking for is next to it) x2"), std::string::npos)
      << applied.said();
}

}  // namespace
}  // namespace tfq::int4
