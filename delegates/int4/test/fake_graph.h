// A runtime in miniature: tensors, nodes and the calls that a delegate makes, with memory of exactly the size asked
// for.
#ifndef TFQ_DELEGATES_INT4_TEST_FAKE_GRAPH_H_
#define TFQ_DELEGATES_INT4_TEST_FAKE_GRAPH_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "delegates/int4/abi/tflite.h"

namespace tfq::int4 {

class FakeGraph {
 public:
  // Bytes of a node's parameters, enough for those of every operator.
  static constexpr size_t kParamsBytes = 64;

  FakeGraph();
  ~FakeGraph();
  FakeGraph(const FakeGraph&) = delete;
  FakeGraph& operator=(const FakeGraph&) = delete;

  // A tensor that the runtime fills; `scales` may be empty.
  int32_t AddTensor(const std::string& name, abi::Type type, const std::vector<int32_t>& dims,
                    const std::vector<float>& scales, int32_t zero_point = 0, int32_t axis = 0);

  // A constant of the file.
  int32_t AddConstant(const std::string& name, abi::Type type, const std::vector<int32_t>& dims,
                      const std::vector<float>& scales, int32_t axis, const void* data, size_t bytes);

  template <typename Params>
  int32_t AddNode(int32_t builtin_code, const std::vector<int32_t>& inputs, int32_t output, const Params& params) {
    return AddNodeBytes(builtin_code, inputs, output, &params, sizeof(params));
  }

  // Replaces how a tensor is quantized: by `scales` (none: not at all), or in blocks.
  void SetQuantization(abi::Tensor* tensor, const std::vector<float>& scales, int32_t zero_point, int32_t axis);
  void SetBlockwise(abi::Tensor* tensor, const abi::BlockwiseQuantization& blocks);

  abi::Context* context() { return &context_; }
  size_t nodes() const { return nodes_.size(); }
  abi::Tensor& tensor(int32_t index) { return tensors_[static_cast<size_t>(index)]; }
  abi::Node& node(int32_t index) { return nodes_[static_cast<size_t>(index)]->node; }
  abi::Registration& registration(int32_t index) { return nodes_[static_cast<size_t>(index)]->registration; }

  // Makes a tensor an output of the graph although a node reads it.
  void AddOutput(int32_t tensor) { outputs_.push_back(tensor); }

  void Resize(int32_t tensor, const std::vector<int32_t>& dims);
  template <typename T>
  void Fill(int32_t index, const std::vector<T>& values) {
    Resize(index, Dims(index));
    std::memcpy(tensor(index).data, values.data(), values.size() * sizeof(T));
  }
  // Empty for a tensor without memory.
  template <typename T = int8_t>
  std::vector<T> Values(int32_t index) const {
    const abi::Tensor& read = tensors_[static_cast<size_t>(index)];
    const T* data = static_cast<const T*>(read.data);
    return data == nullptr ? std::vector<T>() : std::vector<T>(data, data + read.bytes / sizeof(T));
  }
  std::vector<int32_t> Dims(int32_t tensor) const;
  int64_t Elements(int32_t tensor) const;  // -1 when no tensor can have them

  // Prepares and runs the kernels that a delegate put in place of nodes, in order.
  abi::Status Prepare();
  abi::Status Invoke();

  size_t kernels() const { return kernels_.size(); }
  const std::string& errors() const { return errors_; }

 private:
  struct NodeStorage {
    abi::Node node = {};
    abi::Registration registration = {};
    std::vector<uint8_t> params;
  };
  struct Kernel {
    abi::Registration registration;
    abi::Node node = {};
  };

  int32_t AddNodeBytes(int32_t builtin_code, const std::vector<int32_t>& inputs, int32_t output, const void* params,
                       size_t bytes);
  void Replace(const abi::Registration& registration, const std::vector<int32_t>& run, abi::Delegate* delegate);
  static FakeGraph& From(abi::Context* context);
  static void ReportError(abi::Context* context, const char* format, ...);

  abi::Context context_ = {};
  std::vector<abi::Tensor> tensors_;
  std::vector<std::unique_ptr<NodeStorage>> nodes_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  abi::IntArray* plan_ = nullptr;
  abi::DelegateParams preview_ = {};
  std::vector<int32_t> outputs_;
  std::string errors_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_FAKE_GRAPH_H_
