#include "delegates/int4/test/fake_graph.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <set>

namespace tfq::int4 {
namespace {

abi::IntArray* Array(const std::vector<int32_t>& values) {
  abi::IntArray* array = abi::NewIntArray(static_cast<int32_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) array->data[i] = values[i];
  return array;
}

// Elements of a tensor, or -1 when they are negative or more than a test can hold.
int64_t CountElements(const std::vector<int32_t>& dims) {
  constexpr int64_t kMost = int64_t{1} << 28;
  int64_t elements = 1;
  for (const int32_t size : dims) {
    elements *= size;
    if (elements < 0 || elements > kMost) return -1;
  }
  return elements;
}

void FreeQuantization(abi::Quantization* quantization) {
  if (quantization->type == abi::QuantizationType::kBlockwise) {
    delete static_cast<abi::BlockwiseQuantization*>(quantization->params);
  } else if (auto* affine = static_cast<abi::AffineQuantization*>(quantization->params)) {
    std::free(affine->scale);
    std::free(affine->zero_point);
    delete affine;
  }
  *quantization = {};
}

}  // namespace

FakeGraph& FakeGraph::From(abi::Context* context) { return *static_cast<FakeGraph*>(context->unused_impl); }

FakeGraph::FakeGraph() {
  context_.unused_impl = this;
  context_.GetExecutionPlan = [](abi::Context* context, abi::IntArray** plan) {
    FakeGraph& graph = From(context);
    std::vector<int32_t> order(graph.nodes_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::free(graph.plan_);
    *plan = graph.plan_ = Array(order);
    return abi::Status::kOk;
  };
  context_.GetNodeAndRegistration = [](abi::Context* context, int32_t index, abi::Node** node,
                                       abi::Registration** registration) {
    *node = &From(context).node(index);
    *registration = &From(context).registration(index);
    return abi::Status::kOk;
  };
  context_.ResizeTensor = [](abi::Context* context, abi::Tensor* tensor, abi::IntArray* dims) {
    const std::vector<int32_t> sizes(dims->data, dims->data + dims->size);
    std::free(dims);
    const int32_t index = static_cast<int32_t>(tensor - context->tensors);
    // Constants keep the size that they have in the file.
    if (tensor->allocation_type == abi::AllocationType::kConstant) {
      return sizes == From(context).Dims(index) ? abi::Status::kOk : abi::Status::kError;
    }
    if (CountElements(sizes) < 0) return abi::Status::kError;
    From(context).Resize(index, sizes);
    return abi::Status::kOk;
  };
  context_.ReportError = &ReportError;
  // For all nodes at once: one partition, whose outputs are the tensors that no node reads.
  context_.PreviewDelegatePartitioning = [](abi::Context* context, const abi::IntArray* nodes,
                                            abi::DelegateParams** partitions, int32_t* count) {
    FakeGraph& graph = From(context);
    if (static_cast<size_t>(nodes->size) != graph.nodes_.size()) return abi::Status::kError;
    std::vector<int32_t> outputs = graph.outputs_;
    for (const auto& storage : graph.nodes_) {
      const int32_t written = storage->node.outputs->data[0];
      const bool read = std::any_of(graph.nodes_.begin(), graph.nodes_.end(), [&](const auto& reader) {
        const abi::IntArray& inputs = *reader->node.inputs;
        return std::find(inputs.begin(), inputs.end(), written) != inputs.end();
      });
      if (!read) outputs.push_back(written);
    }
    std::free(graph.preview_.output_tensors);
    graph.preview_.output_tensors = Array(outputs);
    *partitions = &graph.preview_;
    *count = 1;
    return abi::Status::kOk;
  };
  context_.ReplaceNodeSubsetsWithDelegateKernels = [](abi::Context* context, abi::Registration registration,
                                                      const abi::IntArray* nodes, abi::Delegate* delegate) {
    FakeGraph& graph = From(context);
    std::vector<int32_t> run;
    for (int32_t i = 0; i < nodes->size; ++i) {
      if (!run.empty() && nodes->data[i] != run.back() + 1) {
        graph.Replace(registration, run, delegate);
        run.clear();
      }
      run.push_back(nodes->data[i]);
    }
    if (!run.empty()) graph.Replace(registration, run, delegate);
    return abi::Status::kOk;
  };
}

void FakeGraph::ReportError(abi::Context* context, const char* format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  From(context).errors_ += std::string(line) + "\n";
}

FakeGraph::~FakeGraph() {
  for (const auto& kernel : kernels_) {
    kernel->registration.free(&context_, kernel->node.user_data);
    std::free(kernel->node.inputs);
    std::free(kernel->node.outputs);
  }
  for (const auto& node : nodes_) {
    std::free(node->node.inputs);
    std::free(node->node.outputs);
  }
  for (abi::Tensor& tensor : tensors_) {
    std::free(tensor.data);
    std::free(tensor.dims);
    delete[] tensor.name;
    FreeQuantization(&tensor.quantization);
  }
  std::free(plan_);
  std::free(preview_.output_tensors);
}

int32_t FakeGraph::AddTensor(const std::string& name, abi::Type type, const std::vector<int32_t>& dims,
                             const std::vector<float>& scales, int32_t zero_point, int32_t axis) {
  abi::Tensor tensor = {};
  tensor.type = type;
  tensor.dims = Array(dims);
  tensor.allocation_type = abi::AllocationType::kArena;
  char* copy = new char[name.size() + 1];
  std::memcpy(copy, name.c_str(), name.size() + 1);
  tensor.name = copy;
  SetQuantization(&tensor, scales, zero_point, axis);
  tensors_.push_back(tensor);
  context_.tensors = tensors_.data();
  context_.tensors_size = tensors_.size();
  return static_cast<int32_t>(tensors_.size()) - 1;
}

void FakeGraph::SetQuantization(abi::Tensor* tensor, const std::vector<float>& scales, int32_t zero_point,
                                int32_t axis) {
  FreeQuantization(&tensor->quantization);
  if (scales.empty()) return;
  tensor->params = {scales[0], zero_point};
  auto* affine = new abi::AffineQuantization();
  const size_t bytes = sizeof(float) * scales.size();
  affine->scale = static_cast<abi::FloatArray*>(std::malloc(offsetof(abi::FloatArray, data) + bytes));
  affine->scale->size = static_cast<int32_t>(scales.size());
  std::memcpy(affine->scale->data, scales.data(), bytes);
  affine->zero_point = Array(std::vector<int32_t>(scales.size(), zero_point));
  affine->quantized_dimension = axis;
  tensor->quantization = {abi::QuantizationType::kAffine, affine};
}

void FakeGraph::SetBlockwise(abi::Tensor* tensor, const abi::BlockwiseQuantization& blocks) {
  FreeQuantization(&tensor->quantization);
  tensor->quantization = {abi::QuantizationType::kBlockwise, new abi::BlockwiseQuantization(blocks)};
}

int32_t FakeGraph::AddConstant(const std::string& name, abi::Type type, const std::vector<int32_t>& dims,
                               const std::vector<float>& scales, int32_t axis, const void* data, size_t bytes) {
  const int32_t index = AddTensor(name, type, dims, scales, 0, axis);
  abi::Tensor& constant = tensor(index);
  constant.allocation_type = abi::AllocationType::kConstant;
  constant.bytes = bytes;
  constant.data = std::malloc(bytes);
  std::memcpy(constant.data, data, bytes);
  return index;
}

int32_t FakeGraph::AddNodeBytes(int32_t builtin_code, const std::vector<int32_t>& inputs, int32_t output,
                                const void* params, size_t bytes) {
  auto storage = std::make_unique<NodeStorage>();
  storage->params.assign(static_cast<const uint8_t*>(params), static_cast<const uint8_t*>(params) + bytes);
  storage->params.resize(kParamsBytes);
  storage->node.inputs = Array(inputs);
  storage->node.outputs = Array({output});
  storage->node.builtin_data = storage->params.data();
  storage->registration.builtin_code = builtin_code;
  nodes_.push_back(std::move(storage));
  return static_cast<int32_t>(nodes_.size()) - 1;
}

// What nodes of the run read from outside it, and what nodes outside it, or nobody, read of theirs.
void FakeGraph::Replace(const abi::Registration& registration, const std::vector<int32_t>& run,
                        abi::Delegate* delegate) {
  std::set<int32_t> written, inputs, outputs;
  for (const int32_t index : run) {
    const abi::Node& replaced = node(index);
    for (int32_t i = 0; i < replaced.inputs->size; ++i) {
      if (written.count(replaced.inputs->data[i]) == 0) inputs.insert(replaced.inputs->data[i]);
    }
    written.insert(replaced.outputs->data, replaced.outputs->data + replaced.outputs->size);
  }
  for (const int32_t tensor_index : written) {
    bool read_inside = false, read_outside = false;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const abi::IntArray& read = *nodes_[i]->node.inputs;
      if (std::find(read.data, read.data + read.size, tensor_index) == read.data + read.size) continue;
      const bool inside = std::find(run.begin(), run.end(), static_cast<int32_t>(i)) != run.end();
      (inside ? read_inside : read_outside) = true;
    }
    const bool wanted = std::find(outputs_.begin(), outputs_.end(), tensor_index) != outputs_.end();
    if (read_outside || !read_inside || wanted) outputs.insert(tensor_index);
  }
  abi::DelegateParams params = {delegate, Array(run), Array({inputs.begin(), inputs.end()}),
                                Array({outputs.begin(), outputs.end()})};
  auto kernel = std::make_unique<Kernel>();
  kernel->registration = registration;
  kernel->node.user_data = registration.init(&context_, reinterpret_cast<const char*>(&params), 0);
  kernel->node.inputs = params.input_tensors;
  kernel->node.outputs = params.output_tensors;
  std::free(params.nodes_to_replace);
  kernels_.push_back(std::move(kernel));
}

void FakeGraph::Resize(int32_t index, const std::vector<int32_t>& dims) {
  abi::Tensor& resized = tensor(index);
  std::free(resized.dims);
  std::free(resized.data);
  resized.dims = Array(dims);
  resized.bytes = abi::SizeOf(resized.type);
  for (const int32_t size : dims) resized.bytes *= static_cast<size_t>(size);
  resized.data = std::malloc(std::max<size_t>(1, resized.bytes));
  std::memset(resized.data, 0x5a, resized.bytes);
}

std::vector<int32_t> FakeGraph::Dims(int32_t index) const {
  const abi::IntArray& dims = *tensors_[static_cast<size_t>(index)].dims;
  return {dims.data, dims.data + dims.size};
}

int64_t FakeGraph::Elements(int32_t index) const { return CountElements(Dims(index)); }

abi::Status FakeGraph::Prepare() {
  for (const auto& kernel : kernels_) {
    const abi::Status status = kernel->registration.prepare(&context_, &kernel->node);
    if (status != abi::Status::kOk) return status;
  }
  return abi::Status::kOk;
}

abi::Status FakeGraph::Invoke() {
  for (const auto& kernel : kernels_) {
    const abi::Status status = kernel->registration.invoke(&context_, &kernel->node);
    if (status != abi::Status::kOk) return status;
  }
  return abi::Status::kOk;
}

}  // namespace tfq::int4
