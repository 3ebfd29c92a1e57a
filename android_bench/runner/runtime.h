// What the runner needs of a runtime: open a model, put inputs, run, read outputs.
#ifndef TFQ_ANDROID_BENCH_RUNNER_RUNTIME_H_
#define TFQ_ANDROID_BENCH_RUNNER_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "android_bench/runner/delegate_plugin.h"
#include "android_bench/runner/status.h"

namespace tfq::runner {

// Element types as TFLite and LiteRT number them.
enum class ElementType : int32_t {
  kFloat32 = 1,
  kInt32 = 2,
  kUint8 = 3,
  kInt64 = 4,
  kBool = 6,
  kInt16 = 7,
  kInt8 = 9,
  kFloat16 = 10,
  kFloat64 = 11,
  kUint16 = 17,
  kUint32 = 16,
  kUint64 = 13,
};

// "int8", "float32", ...; "type<number>" for one that has no name here.
std::string ElementTypeName(int32_t type);

struct TensorInfo {
  std::string name;
  int32_t type = 0;
  std::vector<int32_t> shape;
  size_t bytes = 0;
};

struct OpTime {
  std::string name;
  int64_t node = -1;
  bool inside_delegate = false;  // a step of XNNPACK's, counted in its node too
  int64_t calls = 0;
  int64_t total_ns = 0;
};

struct RuntimeConfig {
  std::string library;
  std::string graph;
  int threads = 1;
  bool use_xnnpack = true;
  bool profile = false;
  TfLiteDelegate* delegate = nullptr;
};

// Inputs and outputs are numbered as the model's first subgraph lists them.
class Runtime {
 public:
  virtual ~Runtime() = default;

  virtual Status Open(const RuntimeConfig& config) = 0;
  virtual const char* name() const = 0;
  // Empty where the library does not say.
  virtual std::string version() const = 0;
  // Nodes of the model before any delegate, -1 where the library does not say.
  virtual int64_t nodes() const = 0;
  virtual const std::vector<TensorInfo>& inputs() const = 0;
  virtual const std::vector<TensorInfo>& outputs() const = 0;
  virtual Status Write(size_t input, const void* data) = 0;
  virtual Status Invoke() = 0;
  virtual Status Read(size_t output, void* data) = 0;
  // Times by op since profiling began; an error where the runtime cannot profile.
  virtual Status StartProfile() = 0;
  virtual Status StopProfile(std::vector<OpTime>* ops) = 0;
};

std::unique_ptr<Runtime> MakeLiteRtRuntime();
std::unique_ptr<Runtime> MakeTfLiteRuntime();

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_RUNTIME_H_
