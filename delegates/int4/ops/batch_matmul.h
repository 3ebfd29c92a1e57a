// Which products of matrices are taken.
#ifndef TFQ_DELEGATES_INT4_OPS_BATCH_MATMUL_H_
#define TFQ_DELEGATES_INT4_OPS_BATCH_MATMUL_H_

#include <cstdint>
#include <string>

#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

// `matrices` products of [m][k] and [k][n].
struct MatmulPlan {
  int64_t matrices = 0;
  int32_t m = 0;
  int32_t k = 0;
  int32_t n = 0;
};

// Of factors of these dimensions; `adjoint_second` where the second lies as [n][k]. Returns why the product is not
// taken, or nothing.
std::string PlanMatmul(const Dims& a, const Dims& b, bool adjoint_second, MatmulPlan* plan);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_BATCH_MATMUL_H_
