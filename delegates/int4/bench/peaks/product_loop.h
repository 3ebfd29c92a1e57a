// Products at the pace of the machine: a tier's own instruction, operands in registers, nothing else in the loop. One
// file a tier, named as the folder of its kernels and compiled with the same flags.
#ifndef TFQ_DELEGATES_INT4_BENCH_PEAKS_PRODUCT_LOOP_H_
#define TFQ_DELEGATES_INT4_BENCH_PEAKS_PRODUCT_LOOP_H_

#include <cstdint>

#include "delegates/int4/cpu.h"
#include "delegates/int4/kernels/unroll.h"

namespace tfq::int4 {

struct ProductLoop {
  CpuTier tier;
  const char* instruction;
  int64_t macs;  // of a round
  void (*run)(int64_t rounds);
};

extern const ProductLoop kAvx2Products;
extern const ProductLoop kAvx512VnniProducts;
extern const ProductLoop kAvx512AmxProducts;
extern const ProductLoop kNeonProducts;
extern const ProductLoop kNeonDotprodProducts;
extern const ProductLoop kNeonI8mmProducts;

// Independent sums: enough to hide the latency of a product, few enough to stay in registers.
constexpr int kSums = 12;

#if defined(__x86_64__)
#define TFQ_IN_REGISTER "v"
#else
#define TFQ_IN_REGISTER "w"
#endif

// Each round gives every sum one more product. Product is a type, so that it is inlined: sum = Product()(sum, a, b).
template <typename Product, typename Sum, typename Factor>
inline void RunProducts(int64_t rounds, Sum zero, Factor a) {
  Sum sums[kSums];
  TFQ_UNROLL
  for (Sum& sum : sums) sum = zero;
  Factor b = a;
  for (int64_t round = 0; round < rounds; ++round) {
    TFQ_UNROLL
    for (Sum& sum : sums) {
      // Unknown to the compiler, which so can neither take a product out of the loop nor share it between sums.
      asm volatile("" : "+" TFQ_IN_REGISTER(a), "+" TFQ_IN_REGISTER(b));
      sum = Product()(sum, a, b);
    }
  }
  TFQ_UNROLL
  for (Sum& sum : sums) asm volatile("" : : TFQ_IN_REGISTER(sum));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_BENCH_PEAKS_PRODUCT_LOOP_H_
