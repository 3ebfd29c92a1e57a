#include "delegates/int4/delegate.h"

#include <algorithm>
#include <string>

#include "delegates/int4/abi/names.h"
#include "delegates/int4/dequantized.h"
#include "delegates/int4/rewrite.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {
namespace {

constexpr char kName[] = "TfqInt4Delegate";

abi::Status Fail(abi::Context* context, const std::string& problem) {
  context->ReportError(context, "tfq int4: %s", problem.c_str());
  return abi::Status::kError;
}

struct FreeArray {
  void operator()(abi::IntArray* array) const { std::free(array); }
};
using OwnedArray = std::unique_ptr<abi::IntArray, FreeArray>;

OwnedArray CopyArray(const int32_t* values, size_t count) {
  OwnedArray array(abi::NewIntArray(static_cast<int32_t>(count)));
  if (array != nullptr) std::copy(values, values + count, array->data);
  return array;
}

}  // namespace

Int4Delegate::Int4Delegate(const Options& options) : shared_(std::make_shared<Shared>(options)) {
  delegate_.data = this;
  delegate_.Prepare = &Prepare;
  // The runtime then asks before it prepares the nodes: older ones refuse INT4 dense layers at that point.
  delegate_.flags = abi::kDelegateAllowsDynamicTensors;
}

abi::Status Int4Delegate::Prepare(abi::Context* context, abi::Delegate* delegate) {
  return From(delegate)->Claim(context);
}

abi::Status Int4Delegate::Claim(abi::Context* context) {
  abi::IntArray* runtime_plan = nullptr;
  if (context->GetExecutionPlan(context, &runtime_plan) != abi::Status::kOk) {
    return Fail(context, "the runtime gave no execution plan");
  }
  // The runtime reuses its array in the calls that follow.
  const std::vector<int32_t> plan(runtime_plan->data, runtime_plan->data + runtime_plan->size);

  std::vector<NodeReport> nodes;
  std::vector<NodeView> views;  // of the nodes that can be taken
  std::vector<size_t> places;   // of those among all
  for (const int32_t index : plan) {
    abi::Node* node;
    abi::Registration* registration;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != abi::Status::kOk) {
      return Fail(context, "the runtime gave no node " + std::to_string(index));
    }
    NodeView view;
    const std::string reason = WhyDeclined(*context, *node, *registration, shared_->options, &view);
    if (reason.empty()) {
      places.push_back(nodes.size());
      views.push_back(std::move(view));
    }
    nodes.push_back({0, index, abi::OpName(*registration), false, reason});
  }
  const std::vector<bool> worth_taking = WorthTaking(views);
  std::vector<int32_t> taken;
  for (size_t i = 0; i < views.size(); ++i) {
    NodeReport& node = nodes[places[i]];
    const bool dequantize = views[i].kind == OpKind::kDequantize;
    node.taken =
        dequantize ? ServesOnlyAsWeights(*context, plan, views, views[i].outputs[0].index) : bool{worth_taking[i]};
    node.detail = node.taken   ? views[i].op->kernel(views[i], shared_->options)
                  : dequantize ? "something other than layers that are taken reads its output"
                               : "nothing that it is worth taking for is next to it";
    if (node.taken) taken.push_back(node.node);
  }
  Report(context, std::move(nodes));
  if (taken.empty()) return abi::Status::kOk;

  abi::Registration registration = {};
  registration.init = &InitKernel;
  registration.free = &FreeKernel;
  registration.prepare = &PrepareKernel;
  registration.invoke = &InvokeKernel;
  registration.builtin_code = abi::kDelegateOp;
  registration.custom_name = kName;
  registration.version = 1;
  const OwnedArray claimed = CopyArray(taken.data(), taken.size());
  if (claimed == nullptr) return Fail(context, "no memory");
  return context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, claimed.get(), &delegate_);
}

void Int4Delegate::Report(const abi::Context* context, std::vector<NodeReport> nodes) {
  const bool none = std::none_of(nodes.begin(), nodes.end(), [](const NodeReport& node) { return node.taken; });
  Say((none ? "WARNING, this delegate will not speed anything up: " : "") + Summary(nodes));
  if (shared_->options.verbose) {
    for (const NodeReport& node : nodes) {
      Say("node " + std::to_string(node.node) + " " + node.op + ": " + (node.taken ? "" : "declined, ") + node.detail);
    }
  }
  shared_->report.SetNodes(context, std::move(nodes));
}

void* Int4Delegate::InitKernel(abi::Context* context, const char* buffer, size_t) {
  const auto& params = *reinterpret_cast<const abi::DelegateParams*>(buffer);
  std::string error;
  std::unique_ptr<Partition> partition = Partition::Create(context, params, From(params.delegate)->shared_, &error);
  if (partition == nullptr) Fail(context, error);
  return partition.release();
}

void Int4Delegate::FreeKernel(abi::Context*, void* user_data) { delete static_cast<Partition*>(user_data); }

abi::Status Int4Delegate::PrepareKernel(abi::Context* context, abi::Node* node) {
  if (node->user_data == nullptr) return abi::Status::kError;  // InitKernel has said why
  const std::string problem = static_cast<Partition*>(node->user_data)->Prepare(context);
  return problem.empty() ? abi::Status::kOk : Fail(context, problem);
}

abi::Status Int4Delegate::InvokeKernel(abi::Context* context, abi::Node* node) {
  const std::string problem = static_cast<Partition*>(node->user_data)->Invoke(context);
  return problem.empty() ? abi::Status::kOk : Fail(context, problem);
}

}  // namespace tfq::int4
