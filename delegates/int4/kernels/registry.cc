#include "delegates/int4/kernels/registry.h"

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr const GemmKernel* kGemmKernels[] = {
#if defined(__x86_64__)
    &gemm_qs8_qs4cw_4x16c4_avx2,
#elif defined(__aarch64__)
    &gemm_qs8_qs4cw_8x8c4_neon_dotprod,
    &gemm_qs8_qs4cw_4x4c8_neon,
#endif
    &gemm_qs8_qs4cw_4x1c1_reference,
};

constexpr const DepthwiseKernel* kDepthwiseKernels[] = {
#if defined(__x86_64__)
    &dwconv_qs8_qs4cw_2c32_avx2,
#elif defined(__aarch64__)
    &dwconv_qs8_qs4cw_2c16_neon,
#endif
    &dwconv_qs8_qs4cw_1c1_reference,
};

template <typename Kernel, size_t size>
constexpr KernelTable<Kernel> Table(const Kernel* const (&kernels)[size]) {
  return {kernels, size};
}

template <typename Kernel>
const Kernel* Choose(KernelTable<Kernel> kernels, CpuTier cap) {
  for (const Kernel* kernel : kernels) {
    if (kernel->tier <= cap && CpuRuns(kernel->tier)) return kernel;
  }
  return *(kernels.end() - 1);  // the reference, which every CPU runs
}

}  // namespace

KernelTable<GemmKernel> GemmKernels() { return Table(kGemmKernels); }

KernelTable<DepthwiseKernel> DepthwiseKernels() { return Table(kDepthwiseKernels); }

const GemmKernel* ChooseGemm(CpuTier cap) { return Choose(GemmKernels(), cap); }

const DepthwiseKernel* ChooseDepthwise(CpuTier cap) { return Choose(DepthwiseKernels(), cap); }

}  // namespace tfq::int4
