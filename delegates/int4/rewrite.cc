#include "delegates/int4/rewrite.h"

#include <algorithm>

#include "delegates/int4/ops/pad.h"

namespace tfq::int4 {
namespace {

bool Reads(const NodeView& node, int32_t tensor) {
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](const TensorView& t) { return t.index == tensor; });
}

bool FollowEachOther(const NodeView& first, const NodeView& second) {
  return std::any_of(first.outputs.begin(), first.outputs.end(),
                     [&](const TensorView& output) { return Reads(second, output.index); });
}

bool TakesPadding(const NodeView& node) { return node.kind == OpKind::kConv || node.kind == OpKind::kDepthwise; }

}  // namespace

std::vector<bool> WorthTaking(const std::vector<NodeView>& nodes) {
  std::vector<bool> reached(nodes.size());
  std::vector<size_t> from;
  const auto reach = [&](size_t i) {
    reached[i] = true;
    from.push_back(i);
  };
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (PaysAlone(nodes[i].kind)) reach(i);
  }
  while (!from.empty()) {
    const size_t current = from.back();
    from.pop_back();
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (reached[i]) continue;
      if (FollowEachOther(nodes[current], nodes[i]) || FollowEachOther(nodes[i], nodes[current])) reach(i);
    }
  }
  return reached;
}

std::vector<bool> FoldPads(std::vector<NodeView>* nodes, const abi::IntArray& outputs) {
  std::vector<bool> folded(nodes->size());
  for (size_t i = 0; i < nodes->size(); ++i) {
    const NodeView& pad = (*nodes)[i];
    if (pad.kind != OpKind::kPad) continue;
    const int32_t padded = pad.outputs[0].index;
    if (std::find(outputs.begin(), outputs.end(), padded) != outputs.end()) continue;
    const bool only_convolutions = std::all_of(
        nodes->begin(), nodes->end(), [&](const NodeView& node) { return !Reads(node, padded) || TakesPadding(node); });
    if (!only_convolutions) continue;
    folded[i] = true;
    const ImagePadding amounts = PaddingOf(pad);
    for (NodeView& node : *nodes) {
      if (!Reads(node, padded)) continue;
      node.inputs[0] = pad.inputs[0];
      node.window.top += amounts.top;
      node.window.bottom += amounts.bottom;
      node.window.left += amounts.left;
      node.window.right += amounts.right;
    }
  }
  return folded;
}

}  // namespace tfq::int4
