#include "delegates/int4/ops/gemm.h"

#include "delegates/int4/abi/names.h"

namespace tfq::int4 {

// It goes: the layers that read it unpack the weights as they need them.
const char* DequantizeName(const NodeView&, const Options&) { return "none: its readers unpack"; }

const char* GemmName(const NodeView& view, const Options& options) {
  const WeightFormat format = FormatOf(view);
  switch (view.arithmetic()) {
    case Arithmetic::kStatic:
      return ChooseGemm(options.cpu, format, ExtentOf(view))->name;
    case Arithmetic::kWide:
      return ChooseWideGemm(options.cpu, format)->name;
    case Arithmetic::kDynamic:
    case Arithmetic::kWeightOnly:
      return ChooseDynamicGemm(options.cpu, format, ExtentOf(view))->name;
  }
  return "";
}

namespace {

CpuTier TierOf(const NodeView& view, const Options& options) {
  const WeightFormat format = FormatOf(view);
  const bool depthwise = view.kind == OpKind::kDepthwise;
  switch (view.arithmetic()) {
    case Arithmetic::kStatic:
      return depthwise ? ChooseDepthwise(options.cpu, format)->tier
                       : ChooseGemm(options.cpu, format, ExtentOf(view))->tier;
    case Arithmetic::kWide:
      return depthwise ? ChooseWideDepthwise(options.cpu, format)->tier : ChooseWideGemm(options.cpu, format)->tier;
    case Arithmetic::kDynamic:
    case Arithmetic::kWeightOnly:
      return ChooseDynamicGemm(options.cpu, format, ExtentOf(view))->tier;
  }
  return CpuTier::kReference;
}

}  // namespace

std::string WhySlow(const NodeView& view, const Options& options) {
  if (options.cpu == CpuTier::kReference || TierOf(view, options) != CpuTier::kReference) return "";
  return "no fast kernel for " + abi::TypeName(view.input()->type) + " activations and " +
         abi::TypeName(view.weights()->type) + " weights on this CPU";
}

GemmSplit SplitGemm(int64_t row_tiles, int32_t column_tiles, int64_t operations, int32_t threads) {
  if (threads == 1 || operations < kMinOperationsToShare) return {};
  const int32_t wanted = threads * kTasksPerThread;
  GemmSplit split;
  split.row_parts = static_cast<int32_t>(std::min<int64_t>(row_tiles, wanted));
  if (split.row_parts < threads) {
    split.column_parts = std::min(column_tiles, (threads + split.row_parts - 1) / split.row_parts);
  }
  return split;
}

}  // namespace tfq::int4
