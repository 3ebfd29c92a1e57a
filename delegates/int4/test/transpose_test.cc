#include "delegates/int4/ops/transpose.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

std::vector<int8_t> Transposed(const Dims& dims, const Dims& order, const std::vector<int8_t>& values) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  std::vector<int8_t> out;
  for (size_t place = 0; place < values.size(); ++place) {
    size_t from = 0, rest = place;
    for (size_t i = order.size(); i-- > 0;) {
      const size_t axis = static_cast<size_t>(order[i]), size = static_cast<size_t>(dims[axis]);
      from += rest % size * static_cast<size_t>(strides[axis]);
      rest /= size;
    }
    out.push_back(values[from]);
  }
  return out;
}

TEST(Transpose, AnyOrderOfAxes) {
  std::mt19937 random(1);
  for (int32_t run = 0; run < 200; ++run) {
    Dims dims(1 + random() % 5), order(dims.size());
    for (int32_t& size : dims) size = static_cast<int32_t>(random() % 3 == 0 ? 1 : 1 + random() % 20);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    abi::Tensor constant = {};
    constant.data = order.data();
    constant.bytes = sizeof(int32_t) * order.size();
    NodeView view;
    view.constants = {{0, &constant}};
    const std::unique_ptr<Op> op = MakeTranspose(view, Options());
    Shapes outputs;
    ASSERT_EQ(op->Resize({dims}, &outputs), "");
    for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(outputs[0][i], dims[static_cast<size_t>(order[i])]);
    std::vector<int8_t> in(static_cast<size_t>(ElementsOf(dims.data(), dims.data() + dims.size())));
    for (int8_t& x : in) x = static_cast<int8_t>(random());
    std::vector<int8_t> out(in.size());
    ThreadPool pool(2);
    const void* input = in.data();
    void* output = out.data();
    op->Run({&input, &output}, {&pool, nullptr, 0});
    EXPECT_EQ(out, Transposed(dims, order, in));
  }
}

TEST(Transpose, OrdersThatThereCannotBe) {
  TransposePlan plan;
  EXPECT_EQ(PlanTranspose({2, 3}, {0, 0}, &plan), "its order is 0x0, for 2 axes");
  EXPECT_EQ(PlanTranspose({2, 3}, {1}, &plan), "its order is 1, for 2 axes");
  EXPECT_EQ(PlanTranspose({2, 3}, {0, 2}, &plan), "its order is 0x2, for 2 axes");
  EXPECT_EQ(PlanTranspose({2, 3}, {-1, 0}, &plan), "its order is -1x0, for 2 axes");
}

}  // namespace
}  // namespace tfq::int4
