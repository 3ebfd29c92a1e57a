#include "delegates/int4/kernels/registry.h"

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

// clang-format off: one line each

constexpr const GemmKernel* kGemmKernels[] = {
#if defined(__x86_64__)
    &gemm_qs8_qs4cw_128x32c4_avx512_amx, &gemm_qs8_qs8cw_128x32c4_avx512_amx, &gemm_qs8_qs4cw_32x32c4_avx512_vnni,
    &gemm_qs8_qs8cw_32x32c4_avx512_vnni, &gemm_qs8_qs4cw_32x16c4_avx2,        &gemm_qs8_qs8cw_6x16c2_avx2,
#elif defined(__aarch64__)
    &gemm_qs8_qs4cw_16x4c8_neon_i8mm,   &gemm_qs8_qs8cw_16x4c8_neon_i8mm, &gemm_qs8_qs4cw_8x8c4_neon_dotprod,
    &gemm_qs8_qs8cw_8x8c4_neon_dotprod, &gemm_qs8_qs4cw_6x4c8_neon,       &gemm_qs8_qs8cw_4x4c8_neon,
#endif
    &gemm_qs8_qs4cw_4x1c1_reference,     &gemm_qs8_qs8cw_4x1c1_reference,
};

constexpr const DepthwiseKernel* kDepthwiseKernels[] = {
#if defined(__x86_64__)
    &dwconv_qs8_qs4cw_4c64_avx512_vnni, &dwconv_qs8_qs8cw_4c64_avx512_vnni,
    &dwconv_qs8_qs4cw_2c32_avx2,        &dwconv_qs8_qs8cw_2c16_avx2,
#elif defined(__aarch64__)
    &dwconv_qs8_qs4cw_4c16_neon,        &dwconv_qs8_qs8cw_4c16_neon,
#endif
    &dwconv_qs8_qs4cw_1c1_reference,    &dwconv_qs8_qs8cw_1c1_reference,
};

constexpr const DynamicGemmKernel* kDynamicGemmKernels[] = {
#if defined(__x86_64__)
    &gemm_qd8_qs4cw_128x32c4_avx512_amx, &gemm_qd8_qs8cw_128x32c4_avx512_amx, &gemm_qd8_qs4cw_8x32c4_avx512_vnni,
    &gemm_qd8_qs8cw_8x32c4_avx512_vnni,  &gemm_qd8_qs4b_6x32c4_avx512_vnni,   &gemm_qd8_qs4cw_4x16c4_avx2,
    &gemm_qd8_qs4b_4x16c4_avx2,
#elif defined(__aarch64__)
    &gemm_qd8_qs4cw_16x4c8_neon_i8mm,   &gemm_qd8_qs8cw_16x4c8_neon_i8mm,   &gemm_qd8_qs4b_16x4c8_neon_i8mm,
    &gemm_qd8_qs4cw_8x8c4_neon_dotprod, &gemm_qd8_qs8cw_8x8c4_neon_dotprod, &gemm_qd8_qs4b_8x8c4_neon_dotprod,
    &gemm_qd8_qs4cw_6x4c8_neon,         &gemm_qd8_qs8cw_4x4c8_neon,         &gemm_qd8_qs4b_6x4c8_neon,
#endif
    &gemm_qd8_qs4cw_4x1c1_reference,     &gemm_qd8_qs8cw_4x1c1_reference,     &gemm_qd8_qs4b_4x1c1_reference,
};

constexpr const WideGemmKernel* kWideGemmKernels[] = {
#if defined(__x86_64__)
    &gemm_qs16_qs4cw_8x32c2_avx512_vnni, &gemm_qs16_qs8cw_8x32c2_avx512_vnni,
    &gemm_qs16_qs4cw_6x16c2_avx2,        &gemm_qs16_qs8cw_6x16c2_avx2,
#elif defined(__aarch64__)
    &gemm_qs16_qs4cw_8x8c8_neon,         &gemm_qs16_qs8cw_8x8c8_neon,
#endif
    &gemm_qs16_qs4cw_4x1c1_reference,    &gemm_qs16_qs8cw_4x1c1_reference,
};

constexpr const WideDepthwiseKernel* kWideDepthwiseKernels[] = {
#if defined(__x86_64__)
    &dwconv_qs16_qs4cw_1c16_avx2,
    &dwconv_qs16_qs8cw_1c16_avx2,
#elif defined(__aarch64__)
    &dwconv_qs16_qs4cw_4c16_neon,
    &dwconv_qs16_qs8cw_4c16_neon,
#endif
    &dwconv_qs16_qs4cw_1c1_reference,
    &dwconv_qs16_qs8cw_1c1_reference,
};

constexpr const QuantizeKernel* kQuantizeKernels[] = {
#if defined(__x86_64__)
    &quantize_f32_qd8_avx2,
    &quantize_f32_qd8x3_avx2,
#elif defined(__aarch64__)
    &quantize_f32_qd8_neon,
    &quantize_f32_qd8x3_neon,
#endif
    &quantize_f32_qd8_reference,
    &quantize_f32_qd8x3_reference,
};

constexpr const AddKernel* kAddKernels[] = {
#if defined(__x86_64__)
    &vadd_qs8_u16_avx512_vnni,
    &vadd_qs8_u16_avx2,
#elif defined(__aarch64__)
    &vadd_qs8_u16_neon,
#endif
    &vadd_qs8_u1_reference,
};

constexpr const MulKernel* kMulKernels[] = {
#if defined(__x86_64__)
    &vmul_qs8_u16_avx2,
#elif defined(__aarch64__)
    &vmul_qs8_u16_neon,
#endif
    &vmul_qs8_u1_reference,
};

constexpr const LookupKernel* kLookupKernels[] = {
#if defined(__x86_64__)
    &vlut_qs8_u64_avx512_vnni,
    &vlut_qs8_u32_avx2,
#elif defined(__aarch64__)
    &vlut_qs8_u32_neon,
#endif
    &vlut_qs8_u1_reference,
};

constexpr const SumRowsKernel* kSumRowsKernels[] = {
#if defined(__x86_64__)
    &rsum_qs8_u16_avx2,
#elif defined(__aarch64__)
    &rsum_qs8_u16_neon,
#endif
    &rsum_qs8_u1_reference,
};

constexpr const MaxRowsKernel* kMaxRowsKernels[] = {
#if defined(__x86_64__)
    &rmax_qs8_u32_avx2,
#elif defined(__aarch64__)
    &rmax_qs8_u16_neon,
#endif
    &rmax_qs8_u1_reference,
};

// clang-format on

template <typename Kernel, size_t size>
constexpr KernelTable<Kernel> Table(const Kernel* const (&kernels)[size]) {
  return {kernels, size};
}

template <typename Kernel, typename Suits>
const Kernel* Choose(KernelTable<Kernel> kernels, CpuTier cap, const Suits& suits) {
  for (const Kernel* kernel : kernels) {
    if (suits(*kernel) && kernel->tier <= cap && CpuRuns(kernel->tier)) return kernel;
  }
  return nullptr;  // not reached: the table has a reference for each format
}

template <typename Kernel>
const Kernel* Choose(KernelTable<Kernel> kernels, CpuTier cap, const WeightFormat& weights) {
  return Choose(kernels, cap, [&](const Kernel& kernel) { return kernel.weights == weights; });
}

template <typename Kernel>
const Kernel* Choose(KernelTable<Kernel> kernels, CpuTier cap, const WeightFormat& weights, const GemmExtent& extent) {
  return Choose(kernels, cap, [&](const Kernel& kernel) {
    return kernel.weights == weights && extent.rows >= kernel.least_rows && extent.depth >= kernel.least_depth;
  });
}

template <typename Kernel>
const Kernel* Choose(KernelTable<Kernel> kernels, CpuTier cap) {
  return Choose(kernels, cap, [](const Kernel&) { return true; });
}

}  // namespace

KernelTable<GemmKernel> GemmKernels() { return Table(kGemmKernels); }

KernelTable<DepthwiseKernel> DepthwiseKernels() { return Table(kDepthwiseKernels); }

KernelTable<AddKernel> AddKernels() { return Table(kAddKernels); }

KernelTable<MulKernel> MulKernels() { return Table(kMulKernels); }

KernelTable<LookupKernel> LookupKernels() { return Table(kLookupKernels); }

KernelTable<SumRowsKernel> SumRowsKernels() { return Table(kSumRowsKernels); }

KernelTable<MaxRowsKernel> MaxRowsKernels() { return Table(kMaxRowsKernels); }

const GemmKernel* ChooseGemm(CpuTier cap, const WeightFormat& weights, const GemmExtent& extent) {
  return Choose(GemmKernels(), cap, weights, extent);
}

const DepthwiseKernel* ChooseDepthwise(CpuTier cap, const WeightFormat& weights) {
  return Choose(DepthwiseKernels(), cap, weights);
}

KernelTable<DynamicGemmKernel> DynamicGemmKernels() { return Table(kDynamicGemmKernels); }

KernelTable<WideGemmKernel> WideGemmKernels() { return Table(kWideGemmKernels); }

KernelTable<WideDepthwiseKernel> WideDepthwiseKernels() { return Table(kWideDepthwiseKernels); }

KernelTable<QuantizeKernel> QuantizeKernels() { return Table(kQuantizeKernels); }

const DynamicGemmKernel* ChooseDynamicGemm(CpuTier cap, const WeightFormat& weights, const GemmExtent& extent) {
  return Choose(DynamicGemmKernels(), cap, weights, extent);
}

const WideGemmKernel* ChooseWideGemm(CpuTier cap, const WeightFormat& weights) {
  return Choose(WideGemmKernels(), cap, weights);
}

const WideDepthwiseKernel* ChooseWideDepthwise(CpuTier cap, const WeightFormat& weights) {
  return Choose(WideDepthwiseKernels(), cap, weights);
}

const QuantizeKernel* ChooseQuantize(CpuTier cap, int32_t digits) {
  return Choose(QuantizeKernels(), cap, [&](const QuantizeKernel& kernel) { return kernel.digits == digits; });
}

const AddKernel* ChooseAdd(CpuTier cap) { return Choose(AddKernels(), cap); }

const MulKernel* ChooseMul(CpuTier cap) { return Choose(MulKernels(), cap); }

const LookupKernel* ChooseLookup(CpuTier cap) { return Choose(LookupKernels(), cap); }

const SumRowsKernel* ChooseSumRows(CpuTier cap) { return Choose(SumRowsKernels(), cap); }

const MaxRowsKernel* ChooseMaxRows(CpuTier cap) { return Choose(MaxRowsKernels(), cap); }

}  // namespace tfq::int4
