#include "delegates/int4/ops/op.h"

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

std::unique_ptr<Op> MakeOp(const NodeView& view, const Options& options) {
  switch (view.kind) {
    case OpKind::kConv:
      return MakeConv(view, options);
    case OpKind::kDepthwise:
      return MakeDepthwise(view, options);
    case OpKind::kDense:
      return MakeDense(view, options);
  }
  return nullptr;
}

const char* KernelName(OpKind kind, const Options& options) {
  return kind == OpKind::kDepthwise ? ChooseDepthwise(options.cpu)->name : ChooseGemm(options.cpu)->name;
}

}  // namespace tfq::int4
