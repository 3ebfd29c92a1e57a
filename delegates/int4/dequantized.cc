#include "delegates/int4/dequantized.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace tfq::int4 {
namespace {

// The runtime tells a delegate its graph's outputs only as those of a partition; all nodes together are one.
bool IsGraphOutput(abi::Context& context, const std::vector<int32_t>& plan, int32_t tensor) {
  const std::unique_ptr<abi::IntArray, decltype(&std::free)> nodes(abi::NewIntArray(static_cast<int32_t>(plan.size())),
                                                                   &std::free);
  if (nodes == nullptr) return true;
  std::copy(plan.begin(), plan.end(), nodes->data);
  abi::DelegateParams* partitions = nullptr;
  int32_t count = 0;
  if (context.PreviewDelegatePartitioning(&context, nodes.get(), &partitions, &count) != abi::Status::kOk) return true;
  for (int32_t i = 0; i < count; ++i) {
    const abi::IntArray& outputs = *partitions[i].output_tensors;
    if (std::find(outputs.begin(), outputs.end(), tensor) != outputs.end()) return true;
  }
  return false;
}

}  // namespace

TensorView DequantizedFrom(abi::Context& context, const abi::Node& reader, int32_t tensor) {
  for (int32_t i = 0;; ++i) {
    abi::Node* node;
    abi::Registration* registration;
    if (context.GetNodeAndRegistration(&context, i, &node, &registration) != abi::Status::kOk || node == &reader) {
      return {};
    }
    if (registration->builtin_code != abi::kDequantize || node->inputs->size != 1 || node->outputs->size != 1 ||
        node->outputs->data[0] != tensor) {
      continue;
    }
    const int32_t source = node->inputs->data[0];
    if (source < 0 || static_cast<size_t>(source) >= context.tensors_size) return {};
    return {source, &context.tensors[source]};
  }
}

bool ServesOnlyAsWeights(abi::Context& context, const std::vector<int32_t>& plan, const std::vector<NodeView>& taken,
                         int32_t tensor) {
  int64_t readers = 0;
  for (const int32_t index : plan) {
    abi::Node* node;
    abi::Registration* registration;
    if (context.GetNodeAndRegistration(&context, index, &node, &registration) != abi::Status::kOk) return false;
    readers += std::count(node->inputs->begin(), node->inputs->end(), tensor);
  }
  const auto as_weights =
      std::count_if(taken.begin(), taken.end(), [&](const NodeView& view) { return view.dequantized.index == tensor; });
  return readers > 0 && readers == as_weights && !IsGraphOutput(context, plan, tensor);
}

}  // namespace tfq::int4
