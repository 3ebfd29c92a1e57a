// The part of LiteRT's C interface that the runner calls, declared by hand because the wheel ships no headers.
// Checked against libLiteRt.so of ai-edge-litert 2.3.0; the library is opened at run time.
#ifndef TFQ_ANDROID_BENCH_RUNNER_LITERT_ABI_H_
#define TFQ_ANDROID_BENCH_RUNNER_LITERT_ABI_H_

#include <cstddef>
#include <cstdint>

struct TfLiteDelegate;

namespace tfq::runner::litert {

using Code = int;  // 0 is good
inline constexpr Code kOk = 0;
inline constexpr Code kInvalidArgument = 1;
inline constexpr Code kRuntimeFailure = 3;
inline constexpr Code kFileIo = 500;
inline constexpr Code kInvalidFlatbuffer = 501;
inline constexpr int kHardwareCpu = 1;
inline constexpr int kLockRead = 0;
inline constexpr int kLockWrite = 1;

// Handles, never looked into.
struct EnvironmentT;
struct ModelT;
struct OptionsT;
struct OpaqueOptionsT;
struct CompiledModelT;
struct SignatureT;
struct SubgraphT;
struct TensorT;
struct TensorBufferT;
struct RequirementsT;
struct AcceleratorT;
struct DelegateWrapperT;
struct RuntimeContextT;
struct ProfilerT;

struct Version {
  int major;
  int minor;
  int patch;
};

inline constexpr int kMaxRank = 8;

struct Layout {
  uint32_t rank : 7;
  uint32_t has_strides : 1;
  int32_t dimensions[kMaxRank];
  uint32_t strides[kMaxRank];
};
static_assert(sizeof(Layout) == 68);

struct RankedTensorType {
  int32_t element_type;
  Layout layout;
};
static_assert(sizeof(RankedTensorType) == 72);

struct ProfiledEvent {
  const char* tag;
  int32_t type;
  uint64_t start_us;
  uint64_t elapsed_us;
  size_t memory_before[3];
  size_t memory_after[3];
  uint64_t node;
  uint64_t subgraph;
  int32_t source;
};
static_assert(sizeof(ProfiledEvent) == 104);
inline constexpr int32_t kEventOperator = 1 << 1;
inline constexpr int32_t kEventInsideDelegate = 1 << 3;

// The head of the structure behind LiteRtStaticLinkedAcceleratorCpuDef: how the library makes its own XNNPACK delegate.
struct AcceleratorDefinition {
  uint16_t struct_size;
  uint16_t major_version;
  uint16_t minor_version;
  uint16_t reserved;
  Code (*get_name)(const AcceleratorT*, const char**);
  Code (*get_version)(const AcceleratorT*, Version*);
  Code (*get_hardware)(const AcceleratorT*, int*);
  Code (*is_jit)(const AcceleratorT*, bool*);
  Code (*create_delegate)(RuntimeContextT*, EnvironmentT*, const AcceleratorT*, OptionsT*, DelegateWrapperT**);
};
static_assert(offsetof(AcceleratorDefinition, create_delegate) == 40);

}  // namespace tfq::runner::litert

#endif  // TFQ_ANDROID_BENCH_RUNNER_LITERT_ABI_H_
