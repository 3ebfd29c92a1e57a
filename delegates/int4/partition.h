// Adjacent nodes that the delegate runs as one: a chain or any other piece of the graph, in the order of execution.
#ifndef TFQ_DELEGATES_INT4_PARTITION_H_
#define TFQ_DELEGATES_INT4_PARTITION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "delegates/int4/abi/tflite.h"
#include "delegates/int4/aligned_buffer.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/options.h"
#include "delegates/int4/thread_pool.h"

namespace tfq::int4 {

class Partition {
 public:
  // Packs the weights of every node. nullptr when one cannot be taken after all or there is no memory, with `error`
  // set.
  static std::unique_ptr<Partition> Create(abi::Context* context, const abi::DelegateParams& params,
                                           const Options& options, std::shared_ptr<ThreadPool> pool,
                                           std::string* error);

  // Follows the shapes of the inputs: sets those of the outputs and places the tensors between the nodes, which the
  // runtime gives no memory. Returns what is wrong, or nothing.
  std::string Prepare(abi::Context* context);

  std::string Invoke(abi::Context* context);

 private:
  struct Step {
    std::unique_ptr<Op> op;
    std::string name;
    int32_t input;
    int32_t output;
    int32_t input_slot;  // place among the tensors between the nodes, or -1: a tensor of the runtime
    int32_t output_slot;
  };
  struct Slot {
    int32_t tensor;
    int32_t first;
    int32_t last;
    Dims dims;
    size_t offset;
  };

  int32_t SlotOf(int32_t tensor) const;
  bool PlaceSlots();

  std::vector<Step> steps_;
  std::vector<Slot> slots_;
  std::vector<Dims> input_dims_;  // of each step, as last prepared
  std::shared_ptr<ThreadPool> pool_;
  AlignedBuffer memory_;
  AlignedBuffer scratch_;
  size_t scratch_stride_ = 0;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PARTITION_H_
