#include "delegates/int4/ops/broadcast.h"

#include "delegates/int4/describe.h"

namespace tfq::int4 {
namespace {

// Ones in front until there are `rank` axes.
Dims Extended(const Dims& dims, size_t rank) {
  Dims extended(rank - dims.size(), 1);
  extended.insert(extended.end(), dims.begin(), dims.end());
  return extended;
}

// An axis of the output, and which of the tensors is repeated along it.
struct Axis {
  int64_t size;
  bool first_repeated;
  bool second_repeated;
};

bool Alike(const Axis& a, const Axis& b) {
  return a.first_repeated == b.first_repeated && a.second_repeated == b.second_repeated;
}

std::vector<int64_t> StridesOf(const std::vector<Axis>& axes, bool Axis::*repeated) {
  std::vector<int64_t> strides(axes.size());
  int64_t stride = 1;
  for (size_t i = axes.size(); i-- > 0;) {
    strides[i] = axes[i].*repeated ? 0 : stride;
    if (!(axes[i].*repeated)) stride *= axes[i].size;
  }
  return strides;
}

}  // namespace

BroadcastRow BroadcastPlan::Row(int64_t row) const {
  BroadcastRow at = {0, 0};
  for (size_t i = sizes.size(); i-- > 0; row /= sizes[i]) {
    at.first += row % sizes[i] * first_strides[i];
    at.second += row % sizes[i] * second_strides[i];
  }
  return at;
}

std::string PlanBroadcast(const Dims& first, const Dims& second, BroadcastPlan* plan) {
  const size_t rank = std::max(first.size(), second.size());
  const Dims a = Extended(first, rank), b = Extended(second, rank);
  const auto both = [&] {
    return Shape(first.data(), first.data() + first.size()) + " and " +
           Shape(second.data(), second.data() + second.size());
  };
  *plan = BroadcastPlan();
  plan->output.resize(rank);
  std::vector<Axis> axes;
  int64_t elements = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (a[i] != b[i] && a[i] != 1 && b[i] != 1) return both() + " do not go together";
    const int32_t size = a[i] == 1 ? b[i] : a[i];
    plan->output[i] = size;
    elements *= size;
    if (elements > INT32_MAX) return both() + " make more than 2^31 values";
    if (size == 1) continue;
    const Axis axis = {size, a[i] == 1, b[i] == 1};
    if (!axes.empty() && Alike(axes.back(), axis)) {
      axes.back().size *= size;
    } else {
      axes.push_back(axis);
    }
  }
  if (axes.empty()) axes.push_back({1, false, false});
  const auto count = [&](bool Axis::*repeated) {
    return std::count_if(axes.begin(), axes.end(), [&](const Axis& axis) { return axis.*repeated; });
  };
  plan->simple = count(&Axis::first_repeated) <= 1 && count(&Axis::second_repeated) <= 1;
  plan->first_strides = StridesOf(axes, &Axis::first_repeated);
  plan->second_strides = StridesOf(axes, &Axis::second_repeated);
  plan->columns = axes.back().size;
  plan->first_step = plan->first_strides.back();
  plan->second_step = plan->second_strides.back();
  axes.pop_back();
  plan->first_strides.pop_back();
  plan->second_strides.pop_back();
  plan->rows = 1;
  for (const Axis& axis : axes) {
    plan->sizes.push_back(axis.size);
    plan->rows *= axis.size;
  }
  return "";
}

}  // namespace tfq::int4
