#include "delegates/int4/partition.h"

#include <algorithm>

#include "delegates/int4/abi/names.h"
#include "delegates/int4/arena.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {
namespace {

bool Contains(const abi::IntArray& array, int32_t value) {
  return std::find(array.data, array.data + array.size, value) != array.data + array.size;
}

Dims DimsOf(const abi::Tensor& tensor) { return Dims(tensor.dims->data, tensor.dims->data + tensor.dims->size); }

// Elements, or -1 when they are too many to address.
int64_t Elements(const Dims& dims) {
  int64_t elements = 1;
  for (const int32_t size : dims) {
    if (size != 0 && elements > INT64_MAX / 2 / size) return -1;
    elements *= size;
  }
  return elements;
}

bool SetDims(abi::Context* context, int32_t tensor, const Dims& dims) {
  abi::IntArray* array = abi::NewIntArray(static_cast<int32_t>(dims.size()));
  if (array == nullptr) return false;
  std::copy(dims.begin(), dims.end(), array->data);
  return context->ResizeTensor(context, &context->tensors[tensor], array) == abi::Status::kOk;
}

}  // namespace

std::unique_ptr<Partition> Partition::Create(abi::Context* context, const abi::DelegateParams& params,
                                             const Options& options, std::shared_ptr<ThreadPool> pool,
                                             std::string* error) {
  auto partition = std::make_unique<Partition>();
  partition->pool_ = std::move(pool);
  const abi::IntArray& nodes = *params.nodes_to_replace;
  for (int32_t i = 0; i < nodes.size; ++i) {
    abi::Node* node;
    abi::Registration* registration;
    const std::string where = "node " + std::to_string(nodes.data[i]);
    if (context->GetNodeAndRegistration(context, nodes.data[i], &node, &registration) != abi::Status::kOk) {
      *error = where + " is not in the graph";
      return nullptr;
    }
    const std::string name = abi::OpName(*registration) + " (" + where + ")";
    NodeView view;
    const std::string reason = WhyDeclined(*context, *node, *registration, &view);
    if (!reason.empty()) {
      *error = name + ": " + reason;
      return nullptr;
    }
    std::unique_ptr<Op> op = MakeOp(view, options);
    if (op == nullptr) {
      *error = name + ": no memory for the packed weights";
      return nullptr;
    }
    const int32_t input_slot = partition->SlotOf(view.input_index);
    if (input_slot >= 0) partition->slots_[static_cast<size_t>(input_slot)].last = i;
    int32_t output_slot = -1;
    if (!Contains(*params.output_tensors, view.output_index)) {
      output_slot = static_cast<int32_t>(partition->slots_.size());
      partition->slots_.push_back({view.output_index, i, i, {}, 0});
    }
    partition->steps_.push_back({std::move(op), name, view.input_index, view.output_index, input_slot, output_slot});
  }
  partition->input_dims_.resize(partition->steps_.size());
  return partition;
}

int32_t Partition::SlotOf(int32_t tensor) const {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].tensor == tensor) return static_cast<int32_t>(i);
  }
  return -1;
}

std::string Partition::Prepare(abi::Context* context) {
  bool changed = scratch_.data() == nullptr;
  size_t scratch_bytes = 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    const Dims input =
        step.input_slot >= 0 ? slots_[static_cast<size_t>(step.input_slot)].dims : DimsOf(context->tensors[step.input]);
    Dims output;
    if (Elements(input) < 0 || input.empty()) return step.name + ": input has too many values or no dimensions";
    const std::string problem = step.op->Resize(input, &output);
    if (!problem.empty()) return step.name + ": " + problem;
    if (Elements(output) < 0) return step.name + ": output has too many values";
    changed = changed || input != input_dims_[i];
    input_dims_[i] = input;
    scratch_bytes = std::max(scratch_bytes, step.op->scratch_bytes());
    if (step.output_slot >= 0) {
      slots_[static_cast<size_t>(step.output_slot)].dims = output;
    } else if (!SetDims(context, step.output, output)) {
      return step.name + ": the runtime did not resize its output";
    }
  }
  if (!changed) return "";
  scratch_stride_ = (scratch_bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
  if (!PlaceSlots() || !scratch_.Allocate(scratch_stride_ * static_cast<size_t>(pool_->threads()))) {
    return "no memory for the tensors between the delegate's nodes";
  }
  return "";
}

bool Partition::PlaceSlots() {
  std::vector<Lifetime> lifetimes;
  for (const Slot& slot : slots_) {
    lifetimes.push_back({static_cast<size_t>(Elements(slot.dims)), slot.first, slot.last});
  }
  std::vector<size_t> offsets;
  if (!memory_.Allocate(PlanArena(lifetimes, &offsets))) return false;
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i].offset = offsets[i];
  return true;
}

std::string Partition::Invoke(abi::Context* context) {
  const Workspace workspace = {pool_.get(), scratch_.data(), scratch_stride_};
  const auto data = [&](int32_t slot, int32_t tensor) {
    return slot >= 0 ? reinterpret_cast<int8_t*>(memory_.data() + slots_[static_cast<size_t>(slot)].offset)
                     : static_cast<int8_t*>(context->tensors[tensor].data);
  };
  for (const Step& step : steps_) {
    const int8_t* input = data(step.input_slot, step.input);
    int8_t* output = data(step.output_slot, step.output);
    if (input == nullptr || output == nullptr) return step.name + ": its input or output has no memory";
    step.op->Run(input, output, workspace);
  }
  return "";
}

}  // namespace tfq::int4
