// Names and order of the CPU tiers, and the choice of a kernel by them.
#include "delegates/int4/cpu.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {
namespace {

constexpr CpuTier kAllTiers[] = {CpuTier::kReference, CpuTier::kNeon,       CpuTier::kNeonDotprod, CpuTier::kNeonI8mm,
                                 CpuTier::kAvx2,      CpuTier::kAvx512Vnni, CpuTier::kAvx512Amx};

TEST(Cpu, NamesGoThereAndBack) {
  for (const CpuTier tier : kAllTiers) {
    CpuTier parsed;
    ASSERT_TRUE(ParseCpuTier(CpuTierName(tier), &parsed));
    EXPECT_EQ(parsed, tier);
  }
}

TEST(Cpu, RefusesUnknownNames) {
  CpuTier tier;
  for (const char* name : {"", "AVX2", "avx", "neon ", "sse"}) EXPECT_FALSE(ParseCpuTier(name, &tier)) << name;
}

TEST(Cpu, AutoAllowsWhatTheCpuRuns) {
  CpuTier tier;
  ASSERT_TRUE(ParseCpuTier("auto", &tier));
  EXPECT_GE(tier, BestCpuTier());
}

TEST(Cpu, BestTierRunsAndNoneThatRunsIsAbove) {
  EXPECT_TRUE(CpuRuns(BestCpuTier()));
  for (const CpuTier tier : kAllTiers) {
    if (CpuRuns(tier)) {
      EXPECT_LE(tier, BestCpuTier());
    }
  }
}

TEST(Cpu, CountsTheProcessorsOfThisProcess) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(AvailableCpus(), CPU_COUNT(&before));
  size_t first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(AvailableCpus(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

template <typename Kernel>
void ExpectChoiceKeepsTheCap(KernelTable<Kernel> kernels,
                             const std::function<const Kernel*(CpuTier, const WeightFormat&)>& choose,
                             const std::vector<WeightFormat>& formats) {
  for (const WeightFormat& weights : formats) {
    for (const CpuTier cap : kAllTiers) {
      const Kernel* chosen = choose(cap, weights);
      ASSERT_NE(chosen, nullptr);
      EXPECT_EQ(chosen->weights, weights);
      EXPECT_LE(chosen->tier, cap);
      EXPECT_TRUE(CpuRuns(chosen->tier));
      for (const Kernel* kernel : kernels) {
        if (kernel->weights == weights && kernel->tier <= cap && CpuRuns(kernel->tier)) {
          EXPECT_LE(kernel->tier, chosen->tier) << kernel->name;
        }
      }
    }
  }
}

TEST(Registry, ChoosesTheBestTierUnderTheCap) {
  constexpr GemmExtent kMuch = {1 << 20, 1 << 20};
  const auto choose = [&](CpuTier cap, const WeightFormat& weights) { return ChooseGemm(cap, weights, kMuch); };
  const auto choose_dynamic = [&](CpuTier cap, const WeightFormat& weights) {
    return ChooseDynamicGemm(cap, weights, kMuch);
  };
  ExpectChoiceKeepsTheCap<GemmKernel>(GemmKernels(), choose, {kQs4cw, kQs8cw});
  ExpectChoiceKeepsTheCap<DepthwiseKernel>(DepthwiseKernels(), ChooseDepthwise, {kQs4cw, kQs8cw});
  ExpectChoiceKeepsTheCap<DynamicGemmKernel>(DynamicGemmKernels(), choose_dynamic, {kQs4cw, kQs8cw, kQs4b});
  ExpectChoiceKeepsTheCap<WideGemmKernel>(WideGemmKernels(), ChooseWideGemm, {kQs4cw, kQs8cw});
  ExpectChoiceKeepsTheCap<WideDepthwiseKernel>(WideDepthwiseKernels(), ChooseWideDepthwise, {kQs4cw, kQs8cw});
}

TEST(Registry, LeavesSmallProductsToKernelsForThem) {
  for (const CpuTier cap : kAllTiers) {
    for (const GemmExtent& extent : {GemmExtent{1, 4096}, GemmExtent{4096, 1}, GemmExtent{1, 1}}) {
      const GemmKernel* chosen = ChooseGemm(cap, kQs4cw, extent);
      ASSERT_NE(chosen, nullptr);
      EXPECT_LE(chosen->least_rows, extent.rows);
      EXPECT_LE(chosen->least_depth, extent.depth);
      const DynamicGemmKernel* dynamic = ChooseDynamicGemm(cap, kQs4cw, extent);
      ASSERT_NE(dynamic, nullptr);
      EXPECT_LE(dynamic->least_rows, extent.rows);
      EXPECT_LE(dynamic->least_depth, extent.depth);
    }
  }
}

// Kernels that do not know of weights.
template <typename Kernel>
void ExpectBestTier(KernelTable<Kernel> kernels, const Kernel* (*choose)(CpuTier)) {
  for (const CpuTier cap : kAllTiers) {
    const Kernel* chosen = choose(cap);
    ASSERT_NE(chosen, nullptr);
    EXPECT_LE(chosen->tier, cap);
    EXPECT_TRUE(CpuRuns(chosen->tier));
    for (const Kernel* kernel : kernels) {
      if (kernel->tier <= cap && CpuRuns(kernel->tier)) {
        EXPECT_LE(kernel->tier, chosen->tier) << kernel->name;
      }
    }
  }
}

TEST(Registry, ChoosesTheBestTierUnderTheCapWithoutWeights) {
  ExpectBestTier<QuantizeKernel>(QuantizeKernels(), [](CpuTier cap) { return ChooseQuantize(cap, 1); });
  ExpectBestTier<QuantizeKernel>(QuantizeKernels(), [](CpuTier cap) { return ChooseQuantize(cap, kDigits); });
  ExpectBestTier(AddKernels(), ChooseAdd);
  ExpectBestTier(MulKernels(), ChooseMul);
  ExpectBestTier(LookupKernels(), ChooseLookup);
  ExpectBestTier(SumRowsKernels(), ChooseSumRows);
  ExpectBestTier(MaxRowsKernels(), ChooseMaxRows);
}

template <typename Kernel>
void ExpectNamesFollowTheGrammar(KernelTable<Kernel> kernels, const std::string& operation) {
  std::set<std::string> names;
  for (const Kernel* kernel : kernels) {
    const std::string name = kernel->name;
    const std::string tier = std::string("_") + CpuTierName(kernel->tier);
    EXPECT_TRUE(names.insert(name).second) << name;
    const std::string weights = "qs" + std::to_string(kernel->weights.bits) + (kernel->weights.blocks ? "b_" : "cw_");
    EXPECT_EQ(name.rfind(operation + "_" + weights, 0), 0u) << name;
    EXPECT_EQ(name.substr(name.size() - tier.size()), tier) << name;
  }
}

template <typename Kernel>
void ExpectPrefix(KernelTable<Kernel> kernels, const std::string& prefix) {
  for (const Kernel* kernel : kernels) {
    const std::string name = kernel->name;
    const std::string tier = std::string("_") + CpuTierName(kernel->tier);
    EXPECT_EQ(name.rfind(prefix, 0), 0u) << name;
    EXPECT_EQ(name.substr(name.size() - tier.size()), tier) << name;
  }
}

TEST(Registry, NamesFollowTheGrammar) {
  ExpectNamesFollowTheGrammar(GemmKernels(), "gemm_qs8");
  ExpectNamesFollowTheGrammar(DepthwiseKernels(), "dwconv_qs8");
  ExpectNamesFollowTheGrammar(DynamicGemmKernels(), "gemm_qd8");
  ExpectNamesFollowTheGrammar(WideGemmKernels(), "gemm_qs16");
  ExpectNamesFollowTheGrammar(WideDepthwiseKernels(), "dwconv_qs16");
  ExpectPrefix(QuantizeKernels(), "quantize_f32_qd8");
  ExpectPrefix(AddKernels(), "vadd_qs8_u");
  ExpectPrefix(MulKernels(), "vmul_qs8_u");
  ExpectPrefix(LookupKernels(), "vlut_qs8_u");
  ExpectPrefix(SumRowsKernels(), "rsum_qs8_u");
  ExpectPrefix(MaxRowsKernels(), "rmax_qs8_u");
}

template <typename Kernel>
void ExpectNamesSayTheTile(KernelTable<Kernel> kernels) {
  for (const Kernel* kernel : kernels) {
    const std::string tile =
        "_" + std::to_string(kernel->mr) + "x" + std::to_string(kernel->nr) + "c" + std::to_string(kernel->kr) + "_";
    EXPECT_NE(std::string(kernel->name).find(tile), std::string::npos) << kernel->name;
  }
}

TEST(Registry, GemmNamesSayTheTile) {
  ExpectNamesSayTheTile(GemmKernels());
  ExpectNamesSayTheTile(DynamicGemmKernels());
  ExpectNamesSayTheTile(WideGemmKernels());
}

}  // namespace
}  // namespace tfq::int4
