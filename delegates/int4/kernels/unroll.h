// Loops over the rows and vectors of a tile have to be unrolled, or their sums would live in memory: -O2 alone does not
// do it.
#ifndef TFQ_DELEGATES_INT4_KERNELS_UNROLL_H_
#define TFQ_DELEGATES_INT4_KERNELS_UNROLL_H_

#define TFQ_UNROLL _Pragma("GCC unroll 16")

#endif  // TFQ_DELEGATES_INT4_KERNELS_UNROLL_H_
