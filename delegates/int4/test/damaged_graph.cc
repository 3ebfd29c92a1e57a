#include "delegates/int4/test/damaged_graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "delegates/int4/delegate.h"
#include "delegates/int4/test/layers.h"

// A damaged shape asks for more memory than there is, which has to be survived: here there is a gigabyte for each
// request.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=1024";
}

namespace tfq::int4 {
namespace {

// A string of choices; past its end all of them are 0.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint32_t Word() {
    uint32_t word = 0;
    for (int32_t i = 0; i < 4; ++i) word = word << 8 | Byte();
    return word;
  }
  // 0..count-1.
  int32_t Below(size_t count) { return static_cast<int32_t>(Byte() % count); }

  template <typename T, size_t count>
  T Of(const T (&values)[count]) {
    return values[Below(count)];
  }

  // A number that is small, at some edge, or any.
  int32_t Number() {
    constexpr int32_t kEdges[] = {0,     1,   -1,  2,    127,  128,   -128,  -129,      255,
                                  256,   512, 513, 1023, 4096, 32767, 65535, INT32_MAX, INT32_MIN,
                                  65536, -2,  3,   5,    7,    8,     16,    1 << 30,   INT32_MAX - 1};
    switch (Byte() % 4) {
      case 0:
        return Below(9);
      case 1:
        return static_cast<int32_t>(Word());
      default:
        return Of(kEdges);
    }
  }

  float Real() {
    using Limits = std::numeric_limits<float>;
    constexpr float kEdges[] = {0.0f,
                                -0.0f,
                                1.0f,
                                -1.0f,
                                0.05f,
                                Limits::max(),
                                Limits::lowest(),
                                Limits::min(),
                                Limits::denorm_min(),
                                Limits::infinity(),
                                Limits::quiet_NaN(),
                                1e-10f,
                                1e10f,
                                3e-3f};
    if (Byte() % 4 != 0) return Of(kEdges);
    const uint32_t bits = Word();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

constexpr abi::Type kTypes[] = {abi::Type::kNone,  abi::Type::kFloat32, abi::Type::kInt32, abi::Type::kUInt8,
                                abi::Type::kInt64, abi::Type::kInt16,   abi::Type::kInt8,  abi::Type::kFloat16,
                                abi::Type::kInt4,  abi::Type::kInt2,    abi::Type::kUInt4, static_cast<abi::Type>(99)};

// Tensors that are larger get no memory: a test cannot wait for them.
constexpr int64_t kMaxElements = 1 << 20;

abi::Tensor* AnyTensor(FakeGraph* graph, Choices* choices) {
  return &graph->tensor(choices->Below(graph->context()->tensors_size));
}

int32_t AnyNode(FakeGraph* graph, Choices* choices) { return choices->Below(graph->nodes()); }

abi::AffineQuantization* Affine(const abi::Tensor& tensor) {
  return tensor.quantization.type == abi::QuantizationType::kAffine
             ? static_cast<abi::AffineQuantization*>(tensor.quantization.params)
             : nullptr;
}

void SetArray(abi::IntArray** array, const std::vector<int32_t>& values) {
  std::free(*array);
  *array = abi::NewIntArray(static_cast<int32_t>(values.size()));
  std::copy(values.begin(), values.end(), (*array)->data);
}

// Kinds of damage. Each leaves the graph as a runtime could hand it over: lists as long as they say, memory of the size
// that `bytes` says.

void DamageParameters(FakeGraph* graph, Choices* choices) {
  const int32_t number = choices->Number();
  uint8_t* params = static_cast<uint8_t*>(graph->node(AnyNode(graph, choices)).builtin_data);
  std::memcpy(params + 4 * static_cast<size_t>(choices->Below(FakeGraph::kParamsBytes / 4)), &number, sizeof(number));
}

void DamageOperator(FakeGraph* graph, Choices* choices) {
  graph->registration(AnyNode(graph, choices)).builtin_code = choices->Byte();
}

void DamageIndices(FakeGraph* graph, Choices* choices) {
  abi::Node& node = graph->node(AnyNode(graph, choices));
  abi::IntArray** array = choices->Byte() % 2 == 0 ? &node.inputs : &node.outputs;
  std::vector<int32_t> indices((*array)->data, (*array)->data + (*array)->size);
  if (choices->Byte() % 4 == 0) indices.resize(static_cast<size_t>(choices->Below(5)), 0);
  if (!indices.empty()) {
    // -1 is no tensor; others exist, for a runtime checks that.
    const int32_t last = static_cast<int32_t>(graph->context()->tensors_size) - 1;
    indices[static_cast<size_t>(choices->Below(indices.size()))] = choices->Below(static_cast<size_t>(last) + 2) - 1;
  }
  SetArray(array, indices);
}

void DamageType(FakeGraph* graph, Choices* choices) { AnyTensor(graph, choices)->type = choices->Of(kTypes); }

void DamageDims(FakeGraph* graph, Choices* choices) {
  abi::Tensor* tensor = AnyTensor(graph, choices);
  std::vector<int32_t> dims(tensor->dims->data, tensor->dims->data + tensor->dims->size);
  if (choices->Byte() % 4 == 0) dims.resize(static_cast<size_t>(choices->Below(7)), 1);
  if (!dims.empty()) dims[static_cast<size_t>(choices->Below(dims.size()))] = choices->Number();
  SetArray(&tensor->dims, dims);
}

void DamageConstant(FakeGraph* graph, Choices* choices) {
  abi::Tensor* tensor = AnyTensor(graph, choices);
  if (choices->Byte() % 4 == 0) {
    tensor->allocation_type = static_cast<abi::AllocationType>(choices->Below(6));
    return;
  }
  tensor->bytes = static_cast<size_t>(choices->Byte());
  std::free(tensor->data);
  tensor->data = tensor->bytes == 0 ? nullptr : std::calloc(1, tensor->bytes);
  if (tensor->data != nullptr) std::memset(tensor->data, choices->Byte(), tensor->bytes);
}

void DamageFlags(FakeGraph* graph, Choices* choices) {
  static uint8_t something;
  abi::Tensor* tensor = AnyTensor(graph, choices);
  switch (choices->Byte() % 3) {
    case 0:
      tensor->is_variable = true;
      break;
    case 1:
      tensor->sparsity = &something;
      break;
    case 2:
      graph->SetQuantization(tensor, {}, 0, 0);
      break;
  }
}

void DamageScales(FakeGraph* graph, Choices* choices) {
  abi::Tensor* tensor = AnyTensor(graph, choices);
  abi::AffineQuantization* affine = Affine(*tensor);
  if (choices->Byte() % 2 == 0 || affine == nullptr) {
    const std::vector<float> scales(static_cast<size_t>(choices->Below(40)) + 1, choices->Real());
    graph->SetQuantization(tensor, scales, choices->Number(), choices->Number());
  } else if (affine->scale->size > 0) {
    affine->scale->data[choices->Below(static_cast<size_t>(affine->scale->size))] = choices->Real();
  }
}

void DamageActivationScale(FakeGraph* graph, Choices* choices) {
  abi::Tensor* tensor = AnyTensor(graph, choices);
  tensor->params = {choices->Real(), choices->Number()};
  if (abi::AffineQuantization* affine = Affine(*tensor)) {
    affine->scale->data[0] = tensor->params.scale;
    SetArray(&affine->zero_point, {tensor->params.zero_point});
  }
}

void DamageZeroPoints(FakeGraph* graph, Choices* choices) {
  if (abi::AffineQuantization* affine = Affine(*AnyTensor(graph, choices))) {
    SetArray(&affine->zero_point, std::vector<int32_t>(static_cast<size_t>(choices->Below(4)), choices->Number()));
    affine->quantized_dimension = choices->Number();
  }
}

void DamageIntoBlocks(FakeGraph* graph, Choices* choices) {
  abi::Tensor* tensor = AnyTensor(graph, choices);
  const int32_t scales = choices->Below(graph->context()->tensors_size + 1) - 1;
  graph->SetBlockwise(tensor, {scales, choices->Number(), choices->Number(), choices->Number()});
}

constexpr void (*kDamages[])(FakeGraph*, Choices*) = {
    DamageParameters, DamageParameters, DamageOperator,        DamageIndices,    DamageType,       DamageDims,
    DamageConstant,   DamageFlags,      DamageActivationScale, DamageZeroPoints, DamageIntoBlocks, DamageScales,
};

int32_t AddInts(FakeGraph* graph, const std::vector<int32_t>& dims, const std::vector<int32_t>& values) {
  return graph->AddConstant("numbers", abi::Type::kInt32, dims, {}, 0, values.data(), sizeof(int32_t) * values.size());
}

// Operators around the linear ones: what they read beside the image, how they change its shape.
struct Around {
  int32_t builtin_code;
  std::vector<int32_t> (*more_inputs)(FakeGraph*, const Image&);
  std::vector<int32_t> (*shape)(const std::vector<int32_t>&);
};

std::vector<int32_t> Nothing(FakeGraph*, const Image&) { return {}; }
std::vector<int32_t> Itself(FakeGraph*, const Image& image) { return {image.tensor}; }
std::vector<int32_t> AChannel(FakeGraph* graph, const Image&) {
  constexpr int8_t kValue = 7;
  return {graph->AddConstant("channel", abi::Type::kInt8, {1, 1, 1, 1}, {0.1f}, 0, &kValue, 1)};
}
std::vector<int32_t> Same(const std::vector<int32_t>& dims) { return dims; }

constexpr Around kAround[] = {
    {abi::kAdd, Itself, Same},
    {abi::kAdd, AChannel, Same},
    {abi::kSub, Itself, Same},
    {abi::kSub, AChannel, Same},
    {abi::kMul, Itself, Same},
    {abi::kMul, AChannel, Same},
    {abi::kAveragePool2D, Nothing, Same},
    {abi::kMaxPool2D, Nothing, Same},
    {abi::kMean,
     [](FakeGraph* graph, const Image&) {
       return std::vector<int32_t>{AddInts(graph, {2}, {1, 2})};
     },
     [](const std::vector<int32_t>& dims) {
       return std::vector<int32_t>{dims[0], 1, 1, dims[3]};
     }},
    {abi::kPad,
     [](FakeGraph* graph, const Image&) {
       return std::vector<int32_t>{AddInts(graph, {4, 2}, {0, 0, 1, 0, 1, 1, 0, 0})};
     },
     [](const std::vector<int32_t>& dims) {
       return std::vector<int32_t>{dims[0], dims[1] + 1, dims[2] + 2, dims[3]};
     }},
    {abi::kConcatenation, Itself,
     [](const std::vector<int32_t>& dims) {
       return std::vector<int32_t>{dims[0], dims[1], dims[2], 2 * dims[3]};
     }},
    {abi::kReshape,
     [](FakeGraph* graph, const Image& image) {
       return std::vector<int32_t>{
           AddInts(graph, {4}, {image.dims[0], image.dims[1] * image.dims[2], 1, image.dims[3]})};
     },
     [](const std::vector<int32_t>& dims) {
       return std::vector<int32_t>{dims[0], dims[1] * dims[2], 1, dims[3]};
     }},
    {abi::kBatchMatmul, Itself,
     [](const std::vector<int32_t>& dims) {
       return std::vector<int32_t>{dims[0], dims[1], dims[2], dims[2]};
     }},
    {abi::kSquaredDifference, Itself, Same},
    {abi::kSquaredDifference, AChannel, Same},
    {abi::kTranspose,
     [](FakeGraph* graph, const Image&) {
       return std::vector<int32_t>{AddInts(graph, {4}, {0, 3, 2, 1})};
     },
     [](const std::vector<int32_t>& dims) {
       return std::vector<int32_t>{dims[0], dims[3], dims[2], dims[1]};
     }},
    {abi::kSoftmax, Nothing, Same},
    {abi::kRelu, Nothing, Same},
    {abi::kHardSwish, Nothing, Same},
    {abi::kLogistic, Nothing, Same},
    {abi::kRsqrt, Nothing, Same},
    {abi::kQuantize, Nothing, Same},
};

// Parameters that mean something to each of them: a pool of 1x2, an axis of 1 or 3, dimensions kept.
constexpr abi::PoolParams kAroundParams = {abi::Padding::kSame, 1, 1, 1, 2, abi::Activation::kNone};
constexpr abi::BatchMatmulParams kBatchMatmulParams = {0, 1, 0};
constexpr abi::SoftmaxParams kSoftmaxParams = {0.5f};
constexpr abi::ConcatenationParams kConcatenationParams = {3, abi::Activation::kNone};

Image AddAround(FakeGraph* graph, const Around& around, const Image& image) {
  std::vector<int32_t> inputs = {image.tensor};
  for (const int32_t more : around.more_inputs(graph, image)) inputs.push_back(more);
  Image output;
  output.dims = around.shape(image.dims);
  // RESHAPE and its like change nothing but the shape; what lies between 0 and 1 has one scale alone.
  const bool share = around.builtin_code == abi::kLogistic || around.builtin_code == abi::kSoftmax;
  output.scale = share ? 1.0f / 256 : image.scale;
  output.zero_point = share ? -128 : image.zero_point;
  output.tensor = graph->AddTensor("around", abi::Type::kInt8, output.dims, {output.scale}, output.zero_point);
  output.values.resize(static_cast<size_t>(graph->Elements(output.tensor)));
  if (around.builtin_code == abi::kConcatenation) {
    graph->AddNode(around.builtin_code, inputs, output.tensor, kConcatenationParams);
  } else if (around.builtin_code == abi::kBatchMatmul) {
    graph->AddNode(around.builtin_code, inputs, output.tensor, kBatchMatmulParams);
  } else if (around.builtin_code == abi::kSoftmax) {
    graph->AddNode(around.builtin_code, inputs, output.tensor, kSoftmaxParams);
  } else {
    graph->AddNode(around.builtin_code, inputs, output.tensor, kAroundParams);
  }
  return output;
}

// The same graph with floating-point activations, dense weights in blocks where they can be.
void MakeFloat(FakeGraph* graph) {
  for (size_t i = 0; i < graph->context()->tensors_size; ++i) {
    abi::Tensor& tensor = graph->tensor(static_cast<int32_t>(i));
    const bool bias = std::strcmp(tensor.name, "bias") == 0;
    if (bias || tensor.allocation_type != abi::AllocationType::kConstant) tensor.type = abi::Type::kFloat32;
  }
  constexpr int32_t kBlock = 32;
  for (size_t i = 0; i < graph->nodes(); ++i) {
    if (graph->registration(static_cast<int32_t>(i)).builtin_code != abi::kFullyConnected) continue;
    const int32_t weights = graph->node(static_cast<int32_t>(i)).inputs->data[1];
    const std::vector<int32_t> dims = graph->Dims(weights);
    if (dims[1] % kBlock != 0 || graph->tensor(weights).type != abi::Type::kInt4) continue;
    const std::vector<int32_t> blocks = {dims[0], dims[1] / kBlock};
    const std::vector<uint16_t> scales(static_cast<size_t>(blocks[0] * blocks[1]), 0x2c00);
    const int32_t scale_tensor = graph->AddConstant("scales", abi::Type::kFloat16, blocks, {}, 0, scales.data(),
                                                    sizeof(uint16_t) * scales.size());
    graph->SetBlockwise(&graph->tensor(weights), {scale_tensor, -1, kBlock, 1});
  }
}

// The same graph with 16-bit activations, and biases of 64 bits.
void MakeWide(FakeGraph* graph) {
  for (size_t i = 0; i < graph->context()->tensors_size; ++i) {
    abi::Tensor& tensor = graph->tensor(static_cast<int32_t>(i));
    if (tensor.allocation_type == abi::AllocationType::kConstant) continue;
    tensor.type = abi::Type::kInt16;
    tensor.params.zero_point = 0;
  }
  for (size_t i = 0; i < graph->nodes(); ++i) {
    abi::IntArray* inputs = graph->node(static_cast<int32_t>(i)).inputs;
    if (inputs->size < 3 || inputs->data[2] < 0 || graph->tensor(inputs->data[2]).type != abi::Type::kInt32) continue;
    const std::vector<int32_t> dims = graph->Dims(inputs->data[2]);
    const std::vector<int64_t> bias(static_cast<size_t>(dims[0]), int64_t{1} << (8 + i * 4));
    inputs->data[2] =
        graph->AddConstant("bias", abi::Type::kInt64, dims, {1.0f}, 0, bias.data(), sizeof(int64_t) * bias.size());
  }
}

// A network of up to four layers of every kind.
void Build(FakeGraph* graph, Choices* choices) {
  LayerMaker maker(choices->Byte());
  constexpr int32_t kChannels[] = {1, 2, 3, 8, 17, 32, 64};
  Image image = maker.AddInput(
      graph, {1 + choices->Below(2), 1 + choices->Below(6), 1 + choices->Below(6), choices->Of(kChannels)});
  const int32_t activations = choices->Byte() % 4;
  const bool real = activations == 0, wide = activations == 1;
  const int32_t layers = 1 + choices->Below(4);
  for (int32_t i = 0; i < layers; ++i) {
    if (!real && !wide && choices->Byte() % 2 == 0) {
      image = AddAround(graph, kAround[choices->Below(std::size(kAround))], image);
      continue;
    }
    constexpr OpKind kKinds[] = {OpKind::kConv, OpKind::kDepthwise, OpKind::kDense};
    Layer layer;
    layer.kind = choices->Of(kKinds);
    layer.kernel_height = 1 + choices->Below(3);
    layer.kernel_width = 1 + choices->Below(3);
    layer.out_channels =
        layer.kind == OpKind::kDepthwise ? image.dims.back() * (1 + choices->Below(2)) : choices->Of(kChannels);
    layer.window.stride_height = 1 + choices->Below(2);
    layer.per_channel = choices->Byte() % 2 == 0;
    layer.weight_bits = choices->Byte() % 4 != 0 ? 4 : 8;
    layer.keep_num_dims = true;
    image = maker.AddLayer(graph, layer, image);
  }
  if (real) MakeFloat(graph);
  if (wide) MakeWide(graph);
}

// Gives every tensor that is not a constant memory of exactly its size, as a runtime does before it runs.
void Allocate(FakeGraph* graph) {
  for (size_t i = 0; i < graph->context()->tensors_size; ++i) {
    abi::Tensor& tensor = graph->tensor(static_cast<int32_t>(i));
    if (tensor.allocation_type == abi::AllocationType::kConstant) continue;
    const int64_t elements = graph->Elements(static_cast<int32_t>(i));
    if (elements >= 0 && elements <= kMaxElements) {
      graph->Resize(static_cast<int32_t>(i), graph->Dims(static_cast<int32_t>(i)));
    } else {
      std::free(tensor.data);
      tensor.data = nullptr;
      tensor.bytes = 0;
    }
  }
}

void PrepareAndRun(FakeGraph* graph) {
  if (graph->Prepare() != abi::Status::kOk) return;
  Allocate(graph);
  graph->Invoke();
}

}  // namespace

void RunDamagedGraph(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  Options options;
  const CpuTier kCaps[] = {CpuTier::kReference, CpuTier::kNeon, CpuTier::kAvx2, BestCpuTier()};
  constexpr Match kMatches[] = {Match::kLiteRt, Match::kTfLite214, Match::kXnnpack};
  options.cpu = choices.Of(kCaps);
  options.match = choices.Of(kMatches);
  options.threads = choices.Byte() % 16 == 0 ? 2 : 1;
  Int4Delegate delegate(options);
  FakeGraph graph;
  Build(&graph, &choices);
  const int32_t damages = choices.Below(5);
  for (int32_t i = 0; i < damages; ++i) choices.Of(kDamages)(&graph, &choices);

  if (delegate.get()->Prepare(graph.context(), delegate.get()) != abi::Status::kOk) return;
  PrepareAndRun(&graph);
  // Once more with another input, as programs resize it.
  DamageDims(&graph, &choices);
  PrepareAndRun(&graph);
}

}  // namespace tfq::int4
