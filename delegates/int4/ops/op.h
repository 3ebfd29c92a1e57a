// One operator of a partition: its weights packed once, set up for the shapes of its inputs, then run any number of
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
using Shapes = std::vector<Dims>;

// What Run() works in: threads, and scratch memory of scratch_bytes() for each.
struct Workspace {
  ThreadPool* pool;
  uint8_t* scratch;
  size_t scratch_stride;

  uint8_t* scratch_of(int32_t thread) const { return scratch + scratch_stride * static_cast<size_t>(thread); }
};

// The values of a node's inputs and outputs, in its order and of the types that its tensors have.
struct Operands {
  const void* const* inputs;
  void* const* outputs;

  template <typename T>
  const T* input(int32_t position = 0) const {
    return static_cast<const T*>(inputs[position]);
  }
  template <typename T>
  T* output(int32_t position = 0) const {
    return static_cast<T*>(outputs[position]);
  }
};

class Op {
 public:
  virtual ~Op() = default;

  // Plans for inputs of these dimensions and says what the outputs' are. Returns what is wrong, or nothing.
  virtual std::string Resize(const Shapes& inputs, Shapes* outputs) = 0;

  // Packed weights, in bytes.
  virtual size_t packed_bytes() const { return 0; }

  // Scratch memory that each thread needs, in bytes; valid after Resize().
  virtual size_t scratch_bytes() const = 0;

  // Its output is its input under other dimensions: where the two can share memory, Run() need not be called.
  virtual bool is_alias() const { return false; }

  virtual void Run(const Operands& operands, const Workspace& workspace) = 0;
};

std::unique_ptr<Op> MakeConv(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeDepthwise(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeDense(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeBatchMatmul(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeSquaredDifference(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeAdd(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeSub(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeMul(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeMulByConstant(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeAveragePool(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeMaxPool(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeMean(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakePad(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeConcatenation(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeReshape(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeTranspose(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeSoftmax(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeRelu(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeRelu6(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeReluN1To1(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeHardSwish(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeLogistic(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeRsqrt(const NodeView& view, const Options& options);
std::unique_ptr<Op> MakeQuantize(const NodeView& view, const Options& options);

const char* DequantizeName(const NodeView& view, const Options& options);
// Why no kernel of this CPU is worth taking a linear node for, or nothing: the reference is far slower than the
// runtime.
std::string WhySlow(const NodeView& view, const Options& options);

const char* GemmName(const NodeView& view, const Options& options);
const char* DepthwiseName(const NodeView& view, const Options& options);
const char* BatchMatmulName(const NodeView& view, const Options& options);
const char* LookupPairsName(const NodeView& view, const Options& options);
const char* AddName(const NodeView& view, const Options& options);
const char* MulName(const NodeView& view, const Options& options);
const char* AveragePoolName(const NodeView& view, const Options& options);
const char* MaxPoolName(const NodeView& view, const Options& options);
const char* MeanName(const NodeView& view, const Options& options);
const char* LookupName(const NodeView& view, const Options& options);
const char* CopyName(const NodeView& view, const Options& options);  // of ops that move bytes

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_OP_H_
