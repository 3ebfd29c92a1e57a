// Adjacent nodes that the delegate runs as one: a chain or any other piece of the graph, in the order of execution.
#ifndef TFQ_DELEGATES_INT4_PARTITION_H_
#define TFQ_DELEGATES_INT4_PARTITION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "delegates/int4/abi/tflite.h"
#include "delegates/int4/aligned_buffer.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/options.h"
#include "delegates/int4/profile.h"
#include "delegates/int4/report.h"
#include "delegates/int4/thread_pool.h"

namespace tfq::int4 {

// What the partitions of a delegate share. They keep it: programs may destroy the delegate first.
struct Shared {
  explicit Shared(const Options& chosen)
      : options(chosen), pool(chosen.threads), report(chosen.report), profile(chosen.profile) {}

  const Options options;
  ThreadPool pool;
  ReportFile report;
  Profile profile;
};

class Partition {
 public:
  explicit Partition(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~Partition();
  Partition(const Partition&) = delete;
  Partition& operator=(const Partition&) = delete;

  // Packs the weights of every node. nullptr when one cannot be taken after all or there is no memory, with `error`
  // set.
  static std::unique_ptr<Partition> Create(abi::Context* context, const abi::DelegateParams& params,
                                           std::shared_ptr<Shared> shared, std::string* error);

  // Follows the shapes of the inputs: sets those of the outputs and places the tensors between the nodes, which the
  // runtime gives no memory. Returns what is wrong, or nothing.
  std::string Prepare(abi::Context* context);

  std::string Invoke(abi::Context* context);

 private:
  // A tensor that steps read or write: one of the runtime (an input, a constant, an output, which steps may read too)
  // or one inside, which lies in memory_.
  struct Value {
    int32_t tensor;
    size_t element_bytes;
    bool inside;
    int32_t home;   // place of the value in whose memory it lies: its own, or that of which it is an alias
    int32_t first;  // step that writes it
    int32_t last;   // last step that reads it
    Dims dims;      // as last prepared
    size_t bytes;   // that dims take
    size_t offset;
  };
  struct Step {
    std::unique_ptr<Op> op;
    std::string name;
    std::vector<int32_t> inputs;  // places in values_
    std::vector<int32_t> outputs;
    bool runs;            // false for an alias, whose output lies where its input does
    NodeProfile profile;  // with the shapes as last prepared
  };

  // Returns what is wrong, or nothing.
  std::string AddStep(const NodeView& view, const std::string& name, NodeProfile profile,
                      const abi::IntArray& output_tensors);
  int32_t Find(const TensorView& view) const;  // place among the values, or -1
  int32_t FindOrAdd(const TensorView& view);
  Value& value(int32_t place) { return values_[static_cast<size_t>(place)]; }
  std::string PrepareStep(abi::Context* context, Step* step, bool* changed);
  void ReportMemory(const abi::Context* context) const;
  static bool SetSize(Dims dims, Value* value);  // false when there are too many values
  bool PlaceValues();
  // nullptr when the tensor has no memory, or less than it needs.
  void* DataOf(const abi::Context& context, int32_t place);

  std::vector<Step> steps_;
  std::vector<int32_t> unread_;  // tensors of the runtime that need no memory
  std::vector<Value> values_;
  std::vector<void*> operands_;  // of the step that runs: inputs, then outputs
  const std::shared_ptr<Shared> shared_;
  AlignedBuffer memory_;
  AlignedBuffer scratch_;
  size_t scratch_stride_ = 0;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PARTITION_H_
