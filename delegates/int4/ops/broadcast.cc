#include "delegates/int4/ops/broadcast.h"

#include <algorithm>

#include "delegates/int4/describe.h"

namespace tfq::int4 {
namespace {

// Ones in front until there are `rank` axes.
Dims Extended(const Dims& dims, size_t rank) {
  Dims extended(rank - dims.size(), 1);
  extended.insert(extended.end(), dims.begin(), dims.end());
  return extended;
}

std::vector<int64_t> StridesOf(const Dims& dims) {
  std::vector<int64_t> strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0; stride *= dims[i]) strides[i] = dims[i] == 1 ? 0 : stride;
  return strides;
}

}  // namespace

BroadcastRow BroadcastPlan::Row(int64_t row) const {
  BroadcastRow at = {0, 0};
  for (size_t i = first_strides.size(); i-- > 0; row /= output[i]) {
    at.first += row % output[i] * first_strides[i];
    at.second += row % output[i] * second_strides[i];
  }
  return at;
}

std::string PlanBroadcast(const Dims& first, const Dims& second, BroadcastPlan* plan) {
  const size_t rank = std::max<size_t>({first.size(), second.size(), 1});
  const Dims a = Extended(first, rank), b = Extended(second, rank);
  const auto both = [&] {
    return Shape(first.data(), first.data() + first.size()) + " and " +
           Shape(second.data(), second.data() + second.size());
  };
  Dims output(rank);
  int64_t elements = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (a[i] != b[i] && a[i] != 1 && b[i] != 1) return both() + " do not go together";
    output[i] = a[i] == 1 ? b[i] : a[i];
    elements *= output[i];
    if (elements > INT32_MAX) return both() + " make more than 2^31 values";
  }
  std::vector<int64_t> a_strides = StridesOf(a), b_strides = StridesOf(b);
  const int64_t columns = output.back(), a_step = a_strides.back(), b_step = b_strides.back();
  a_strides.pop_back();
  b_strides.pop_back();
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < rank; ++i) rows *= output[i];
  if (first.empty() && second.empty()) output.clear();
  *plan = {std::move(output), rows, columns, a_step, b_step, std::move(a_strides), std::move(b_strides)};
  return "";
}

}  // namespace tfq::int4
