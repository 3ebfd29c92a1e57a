// The delegate as the runtime sees it.
#ifndef TFQ_DELEGATES_INT4_DELEGATE_H_
#define TFQ_DELEGATES_INT4_DELEGATE_H_

#include <memory>
#include <vector>

#include "delegates/int4/abi/tflite.h"
#include "delegates/int4/options.h"
#include "delegates/int4/partition.h"
#include "delegates/int4/report.h"

namespace tfq::int4 {

class Int4Delegate {
 public:
  explicit Int4Delegate(const Options& options);
  Int4Delegate(const Int4Delegate&) = delete;
  Int4Delegate& operator=(const Int4Delegate&) = delete;

  // Valid as long as this object.
  abi::Delegate* get() { return &delegate_; }

  static Int4Delegate* From(abi::Delegate* delegate) { return static_cast<Int4Delegate*>(delegate->data); }

 private:
  static abi::Status Prepare(abi::Context* context, abi::Delegate* delegate);
  static void* InitKernel(abi::Context* context, const char* buffer, size_t length);
  static void FreeKernel(abi::Context* context, void* user_data);
  static abi::Status PrepareKernel(abi::Context* context, abi::Node* node);
  static abi::Status InvokeKernel(abi::Context* context, abi::Node* node);

  // Takes what it can of the graph, and says what and why.
  abi::Status Claim(abi::Context* context);
  void Report(const abi::Context* context, std::vector<NodeReport> nodes);

  const std::shared_ptr<Shared> shared_;
  abi::Delegate delegate_ = {};
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_DELEGATE_H_
