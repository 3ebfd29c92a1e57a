// Every kernel there is, one line each, defined in the file of the same name (docs/delegate-kernels.md has the
// grammar). A kernel joins the table in registry.cc and is thereby tested and measured.
#ifndef TFQ_DELEGATES_INT4_KERNELS_VARIANTS_H_
#define TFQ_DELEGATES_INT4_KERNELS_VARIANTS_H_

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

extern const GemmKernel gemm_qs8_qs4cw_4x1c1_reference;
extern const GemmKernel gemm_qs8_qs8cw_4x1c1_reference;
extern const GemmKernel gemm_qs8_qs4cw_6x4c8_neon;
extern const GemmKernel gemm_qs8_qs8cw_4x4c8_neon;
extern const GemmKernel gemm_qs8_qs4cw_8x8c4_neon_dotprod;
extern const GemmKernel gemm_qs8_qs8cw_8x8c4_neon_dotprod;
extern const GemmKernel gemm_qs8_qs4cw_16x4c8_neon_i8mm;
extern const GemmKernel gemm_qs8_qs8cw_16x4c8_neon_i8mm;
extern const GemmKernel gemm_qs8_qs4cw_32x16c4_avx2;
extern const GemmKernel gemm_qs8_qs8cw_6x16c2_avx2;
extern const GemmKernel gemm_qs8_qs4cw_128x32c4_avx512_amx;
extern const GemmKernel gemm_qs8_qs8cw_128x32c4_avx512_amx;
extern const GemmKernel gemm_qs8_qs4cw_32x32c4_avx512_vnni;
extern const GemmKernel gemm_qs8_qs8cw_32x32c4_avx512_vnni;

extern const DynamicGemmKernel gemm_qd8_qs4cw_4x1c1_reference;
extern const DynamicGemmKernel gemm_qd8_qs8cw_4x1c1_reference;
extern const DynamicGemmKernel gemm_qd8_qs4b_4x1c1_reference;
extern const DynamicGemmKernel gemm_qd8_qs4cw_6x4c8_neon;
extern const DynamicGemmKernel gemm_qd8_qs8cw_4x4c8_neon;
extern const DynamicGemmKernel gemm_qd8_qs4b_6x4c8_neon;
extern const DynamicGemmKernel gemm_qd8_qs4cw_8x8c4_neon_dotprod;
extern const DynamicGemmKernel gemm_qd8_qs8cw_8x8c4_neon_dotprod;
extern const DynamicGemmKernel gemm_qd8_qs4b_8x8c4_neon_dotprod;
extern const DynamicGemmKernel gemm_qd8_qs4cw_16x4c8_neon_i8mm;
extern const DynamicGemmKernel gemm_qd8_qs8cw_16x4c8_neon_i8mm;
extern const DynamicGemmKernel gemm_qd8_qs4b_16x4c8_neon_i8mm;
extern const DynamicGemmKernel gemm_qd8_qs4cw_4x16c4_avx2;
extern const DynamicGemmKernel gemm_qd8_qs4b_4x16c4_avx2;
extern const DynamicGemmKernel gemm_qd8_qs4cw_128x32c4_avx512_amx;
extern const DynamicGemmKernel gemm_qd8_qs8cw_128x32c4_avx512_amx;
extern const DynamicGemmKernel gemm_qd8_qs4cw_8x32c4_avx512_vnni;
extern const DynamicGemmKernel gemm_qd8_qs8cw_8x32c4_avx512_vnni;
extern const DynamicGemmKernel gemm_qd8_qs4b_6x32c4_avx512_vnni;

extern const WideGemmKernel gemm_qs16_qs4cw_4x1c1_reference;
extern const WideGemmKernel gemm_qs16_qs8cw_4x1c1_reference;
extern const WideGemmKernel gemm_qs16_qs4cw_8x8c8_neon;
extern const WideGemmKernel gemm_qs16_qs8cw_8x8c8_neon;
extern const WideGemmKernel gemm_qs16_qs4cw_6x16c2_avx2;
extern const WideGemmKernel gemm_qs16_qs8cw_6x16c2_avx2;
extern const WideGemmKernel gemm_qs16_qs4cw_8x32c2_avx512_vnni;
extern const WideGemmKernel gemm_qs16_qs8cw_8x32c2_avx512_vnni;

extern const WideDepthwiseKernel dwconv_qs16_qs4cw_1c1_reference;
extern const WideDepthwiseKernel dwconv_qs16_qs8cw_1c1_reference;
extern const WideDepthwiseKernel dwconv_qs16_qs4cw_4c16_neon;
extern const WideDepthwiseKernel dwconv_qs16_qs8cw_4c16_neon;
extern const WideDepthwiseKernel dwconv_qs16_qs4cw_1c16_avx2;
extern const WideDepthwiseKernel dwconv_qs16_qs8cw_1c16_avx2;

extern const QuantizeKernel quantize_f32_qd8_reference;
extern const QuantizeKernel quantize_f32_qd8_neon;
extern const QuantizeKernel quantize_f32_qd8_avx2;
extern const QuantizeKernel quantize_f32_qd8x3_reference;
extern const QuantizeKernel quantize_f32_qd8x3_neon;
extern const QuantizeKernel quantize_f32_qd8x3_avx2;

extern const DepthwiseKernel dwconv_qs8_qs4cw_1c1_reference;
extern const DepthwiseKernel dwconv_qs8_qs8cw_1c1_reference;
extern const DepthwiseKernel dwconv_qs8_qs4cw_4c16_neon;
extern const DepthwiseKernel dwconv_qs8_qs8cw_4c16_neon;
extern const DepthwiseKernel dwconv_qs8_qs4cw_2c32_avx2;
extern const DepthwiseKernel dwconv_qs8_qs8cw_2c16_avx2;
extern const DepthwiseKernel dwconv_qs8_qs4cw_4c64_avx512_vnni;
extern const DepthwiseKernel dwconv_qs8_qs8cw_4c64_avx512_vnni;

extern const AddKernel vadd_qs8_u1_reference;
extern const AddKernel vadd_qs8_u16_neon;
extern const AddKernel vadd_qs8_u16_avx2;
extern const AddKernel vadd_qs8_u16_avx512_vnni;

extern const MulKernel vmul_qs8_u1_reference;
extern const MulKernel vmul_qs8_u16_neon;
extern const MulKernel vmul_qs8_u16_avx2;

extern const LookupKernel vlut_qs8_u1_reference;
extern const LookupKernel vlut_qs8_u32_avx2;
extern const LookupKernel vlut_qs8_u64_avx512_vnni;
extern const LookupKernel vlut_qs8_u32_neon;

extern const SumRowsKernel rsum_qs8_u1_reference;
extern const SumRowsKernel rsum_qs8_u16_neon;
extern const SumRowsKernel rsum_qs8_u16_avx2;

extern const MaxRowsKernel rmax_qs8_u1_reference;
extern const MaxRowsKernel rmax_qs8_u16_neon;
extern const MaxRowsKernel rmax_qs8_u32_avx2;

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_VARIANTS_H_
