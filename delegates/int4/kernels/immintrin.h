// <immintrin.h> without the false alarms of GCC 12, whose own AVX-512 functions read variables that they leave
// undefined on purpose.
#ifndef TFQ_DELEGATES_INT4_KERNELS_IMMINTRIN_H_
#define TFQ_DELEGATES_INT4_KERNELS_IMMINTRIN_H_

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#endif  // TFQ_DELEGATES_INT4_KERNELS_IMMINTRIN_H_
