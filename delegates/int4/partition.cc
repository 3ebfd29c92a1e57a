#include "delegates/int4/partition.h"

#include <algorithm>

#include "delegates/int4/abi/names.h"
#include "delegates/int4/arena.h"
#include "delegates/int4/rewrite.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {
namespace {

bool Contains(const abi::IntArray& array, int32_t value) {
  return std::find(array.begin(), array.end(), value) != array.end();
}

Dims DimsOf(const abi::Tensor& tensor) { return Dims(tensor.dims->begin(), tensor.dims->end()); }

// More values than this are a mistake in the model; sums of a few such sizes do not overflow.
constexpr int64_t kMostElements = int64_t{1} << 40;

// Elements, or -1 when they are negative or too many.
int64_t Elements(const Dims& dims) {
  int64_t elements = 1;
  for (const int32_t size : dims) {
    if (size < 0 || (size > 0 && elements > kMostElements / size)) return -1;
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
                                             std::shared_ptr<Shared> shared, std::string* error) {
  const Options& options = shared->options;
  std::vector<NodeView> views;
  std::vector<NodeProfile> profiles;
  for (const int32_t index : *params.nodes_to_replace) {
    abi::Node* node;
    abi::Registration* registration;
    const std::string where = "node " + std::to_string(index);
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != abi::Status::kOk) {
      *error = where + " is not in the graph";
      return nullptr;
    }
    views.emplace_back();
    const std::string reason = WhyDeclined(*context, *node, *registration, options, &views.back());
    if (!reason.empty()) {
      *error = abi::OpName(*registration) + " (" + where + "): " + reason;
      return nullptr;
    }
    profiles.push_back({index, abi::OpName(*registration), views.back().op->kernel(views.back(), options), {}, {}, {}});
  }
  const std::vector<bool> folded = FoldPads(&views, *params.output_tensors);

  auto partition = std::make_unique<Partition>(std::move(shared));
  for (size_t i = 0; i < views.size(); ++i) {
    if (folded[i]) continue;
    if (views[i].kind == OpKind::kDequantize) {
      // Where a layer of another partition reads the weights in its stead, the runtime still holds a tensor ready.
      const int32_t unread = views[i].outputs[0].index;
      if (Contains(*params.output_tensors, unread)) partition->unread_.push_back(unread);
      continue;
    }
    const std::string name = profiles[i].op + " (node " + std::to_string(profiles[i].node) + ")";
    const std::string problem = partition->AddStep(views[i], name, std::move(profiles[i]), *params.output_tensors);
    if (!problem.empty()) {
      *error = name + ": " + problem;
      return nullptr;
    }
  }
  return partition;
}

Partition::~Partition() {
  if (!shared_->profile.wanted()) return;
  std::vector<NodeProfile> nodes;
  for (Step& step : steps_) nodes.push_back(std::move(step.profile));
  shared_->profile.Add(std::move(nodes));
}

std::string Partition::AddStep(const NodeView& view, const std::string& name, NodeProfile profile,
                               const abi::IntArray& output_tensors) {
  const int32_t number = static_cast<int32_t>(steps_.size());
  Step step = {view.op->make(view, shared_->options), name, {}, {}, true, std::move(profile)};
  if (step.op == nullptr) return "no memory for the packed weights";
  for (const TensorView& input : view.inputs) {
    step.inputs.push_back(FindOrAdd(input));
    value(value(step.inputs.back()).home).last = number;
  }
  for (const TensorView& output : view.outputs) {
    // Memory is planned on this; a damaged model can break it.
    if (Find(output) >= 0) {
      return "it writes tensor " + std::to_string(output.index) + ", which it or a node before it reads or writes";
    }
    step.outputs.push_back(FindOrAdd(output));
    Value& written = value(step.outputs.back());
    written.inside = !Contains(output_tensors, output.index);
    written.first = written.last = number;
    if (written.inside && step.op->is_alias()) {
      written.home = value(step.inputs[0]).home;
      step.runs = false;
    }
  }
  operands_.resize(std::max(operands_.size(), step.inputs.size() + step.outputs.size()));
  steps_.push_back(std::move(step));
  return "";
}

int32_t Partition::Find(const TensorView& view) const {
  const auto known =
      std::find_if(values_.begin(), values_.end(), [&](const Value& v) { return v.tensor == view.index; });
  return known == values_.end() ? -1 : static_cast<int32_t>(known - values_.begin());
}

int32_t Partition::FindOrAdd(const TensorView& view) {
  const int32_t known = Find(view);
  if (known >= 0) return known;
  const int32_t place = static_cast<int32_t>(values_.size());
  values_.push_back({view.index, abi::SizeOf(view.tensor->type), false, place, 0, 0, {}, 0, 0});
  return place;
}

std::string Partition::Prepare(abi::Context* context) {
  bool changed = scratch_.data() == nullptr;
  size_t scratch_bytes = 0;
  for (Step& step : steps_) {
    const std::string problem = PrepareStep(context, &step, &changed);
    if (!problem.empty()) return step.name + ": " + problem;
    scratch_bytes = std::max(scratch_bytes, step.op->scratch_bytes());
  }
  for (const int32_t tensor : unread_) {
    if (!SetDims(context, tensor, {0})) return "the runtime did not resize a tensor that nobody reads";
  }
  if (!changed) return "";
  scratch_stride_ = (scratch_bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
  if (!PlaceValues() || !scratch_.Allocate(scratch_stride_ * static_cast<size_t>(shared_->pool.threads()))) {
    return "no memory for the tensors between the delegate's nodes";
  }
  ReportMemory(context);
  return "";
}

void Partition::ReportMemory(const abi::Context* context) const {
  MemoryReport memory = {0, memory_.size(), scratch_.size()};
  for (const Step& step : steps_) memory.packed += step.op->packed_bytes();
  shared_->report.SetMemory(context, this, memory);
  if (!shared_->options.verbose) return;
  Say("partition of " + std::to_string(steps_.size()) + " nodes: " + std::to_string(memory.packed) +
      " bytes of packed weights, " + std::to_string(memory.arena) + " for tensors between them, " +
      std::to_string(memory.scratch) + " of scratch memory");
}

std::string Partition::PrepareStep(abi::Context* context, Step* step, bool* changed) {
  Shapes inputs, outputs;
  for (const int32_t place : step->inputs) {
    Value& read = value(place);
    if (!read.inside && !SetSize(DimsOf(context->tensors[read.tensor]), &read)) return "input has too many values";
    inputs.push_back(read.dims);
  }
  const std::string problem = step->op->Resize(inputs, &outputs);
  if (!problem.empty()) return problem;
  for (size_t i = 0; i < outputs.size(); ++i) {
    Value& written = value(step->outputs[i]);
    if (!SetSize(outputs[i], &written)) return "output has too many values";
    if (!written.inside && !SetDims(context, written.tensor, outputs[i])) {
      return "the runtime did not resize its output";
    }
  }
  *changed = *changed || inputs != step->profile.inputs;
  step->profile.inputs = std::move(inputs);
  step->profile.outputs = std::move(outputs);
  return "";
}

bool Partition::SetSize(Dims dims, Value* value) {
  const int64_t elements = Elements(dims);
  if (elements < 0) return false;
  value->dims = std::move(dims);
  value->bytes = static_cast<size_t>(elements) * value->element_bytes;
  return true;
}

bool Partition::PlaceValues() {
  std::vector<Value*> inside;
  std::vector<Lifetime> lifetimes;
  for (size_t i = 0; i < values_.size(); ++i) {
    Value& value = values_[i];
    if (!value.inside || value.home != static_cast<int32_t>(i)) continue;
    inside.push_back(&value);
    lifetimes.push_back({value.bytes, value.first, value.last});
  }
  std::vector<size_t> offsets;
  if (!memory_.Allocate(PlanArena(lifetimes, &offsets))) return false;
  for (size_t i = 0; i < inside.size(); ++i) inside[i]->offset = offsets[i];
  return true;
}

void* Partition::DataOf(const abi::Context& context, int32_t place) {
  const size_t needed = value(place).bytes;
  const Value& home = value(value(place).home);
  if (home.inside) return needed > home.bytes ? nullptr : memory_.data() + home.offset;
  const abi::Tensor& tensor = context.tensors[home.tensor];
  return needed > tensor.bytes ? nullptr : tensor.data;
}

std::string Partition::Invoke(abi::Context* context) {
  const Workspace workspace = {&shared_->pool, scratch_.data(), scratch_stride_};
  for (Step& step : steps_) {
    if (!step.runs) continue;
    void** operand = operands_.data();
    for (const std::vector<int32_t>* places : {&step.inputs, &step.outputs}) {
      for (const int32_t place : *places) {
        *operand = DataOf(*context, place);
        if (*operand == nullptr) return step.name + ": its input or output has no memory, or too little";
        ++operand;
      }
    }
    const TimeCall timed(shared_->profile, &step.profile);
    step.op->Run({operands_.data(), operands_.data() + step.inputs.size()}, workspace);
  }
  return "";
}

}  // namespace tfq::int4
