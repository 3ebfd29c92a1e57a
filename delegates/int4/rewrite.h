// What is changed of the nodes before ops are made of them.
#ifndef TFQ_DELEGATES_INT4_REWRITE_H_
#define TFQ_DELEGATES_INT4_REWRITE_H_

#include <vector>

#include "delegates/int4/abi/tflite.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// Which of the nodes, given in the order of execution, are worth taking: those that pay alone, and those that taken
// nodes connect with one. The others gain nothing but that the model stays in one piece.
std::vector<bool> WorthTaking(const std::vector<NodeView>& nodes);

// Moves what a PAD adds into the convolutions that read it, where nothing else does and the padded tensor is not among
// `outputs`. Says which nodes are then not needed.
std::vector<bool> FoldPads(std::vector<NodeView>* nodes, const abi::IntArray& outputs);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_REWRITE_H_
