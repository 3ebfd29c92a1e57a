// Loops over the rows and vectors of a tile have to be unrolled, or their sums would live in memory: -O2 alone does not
// do it.
#ifndef TFQ_DELEGATES_INT4_KERNELS_UNROLL_H_
#define TFQ_DELEGATES_INT4_KERNELS_UNROLL_H_

#define TFQ_UNROLL _Pragma("GCC unroll 16")

// Before a function that sums products up in registers. GCC's partial redundancy elimination (12.2) has the sums copied
// to other registers and back in each round of the loop, which costs up to a third of the speed; Clang has no such
// pass.
#if defined(__clang__)
#define TFQ_SUMS_STAY
#else
#define TFQ_SUMS_STAY __attribute__((optimize("no-tree-pre")))
#endif

#endif  // TFQ_DELEGATES_INT4_KERNELS_UNROLL_H_
