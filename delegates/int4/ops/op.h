// One operator of a partition: its weights packed once, set up for the shape of its input, then run any number of
// times.
#ifndef TFQ_DELEGATES_INT4_OPS_OP_H_
#define TFQ_DELEGATES_INT4_OPS_OP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "delegates/int4/options.h"
#include "delegates/int4/support.h"
#include "delegates/int4/thread_pool.h"

namespace tfq::int4 {

using Dims = std::vector<int32_t>;

// What Run() works in: threads, and scratch memory of scratch_bytes() for each.
struct Workspace {
  ThreadPool* pool;
  uint8_t* scratch;
  size_t scratch_stride;

  uint8_t* scratch_of(int32_t thread) const { return scratch + scratch_stride * static_cast<size_t>(thread); }
};

class Op {
 public:
  virtual ~Op() = default;

  // Plans for an input of these dimensions and says what the output's are. Returns what is wrong, or nothing.
  virtual std::string Resize(const Dims& input, Dims* output) = 0;

  // Scratch memory that each thread needs, in bytes; valid after Resize().
  virtual size_t scratch_bytes() const = 0;

  virtual void Run(const int8_t* input, int8_t* output, const Workspace& workspace) = 0;
};

// The op of a node, its weights packed; it keeps nothing of the view. nullptr when there is no memory.
std::unique_ptr<Op> MakeConv(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeDepthwise(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeDense(const NodeView& view, const Options& options);

std::unique_ptr<Op> MakeOp(const NodeView& view, const Options& options);

// Name of the kernel that the op of this node runs.
const char* KernelName(OpKind kind, const Options& options);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_OP_H_
