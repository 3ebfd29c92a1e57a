// The part of TFLite's C interface that a delegate touches, as it lies in memory on 64-bit platforms.
//
// Runtimes ship no headers with their Python wheels, and a delegate of this kind calls the runtime only through the
// function pointers of the context, so the layouts below are all it needs. They have been the same from TFLite 2.14 to
// LiteRT 2.3; the assertions keep this file to them. Members that no delegate of ours reads are named `unused_`.
#ifndef TFQ_DELEGATES_INT4_ABI_TFLITE_H_
#define TFQ_DELEGATES_INT4_ABI_TFLITE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace tfq::abi {

enum class Status : int32_t { kOk = 0, kError = 1, kDelegateError = 2 };

enum class Type : int32_t {
  kNone = 0,
  kFloat32 = 1,
  kInt32 = 2,
  kUInt8 = 3,
  kInt64 = 4,
  kInt16 = 7,
  kInt8 = 9,
  kFloat16 = 10,
  kInt4 = 18,
  kInt2 = 20,
  kUInt4 = 21,
};

// Bytes of a value; 0 for types of other sizes than whole bytes and those that are not listed.
constexpr size_t SizeOf(Type type) {
  switch (type) {
    case Type::kInt8:
    case Type::kUInt8:
      return 1;
    case Type::kInt16:
    case Type::kFloat16:
      return 2;
    case Type::kFloat32:
    case Type::kInt32:
      return 4;
    case Type::kInt64:
      return 8;
    default:
      return 0;
  }
}

enum class AllocationType : int32_t { kNone = 0, kConstant = 1, kArena = 2, kArenaPersistent = 3, kDynamic = 4 };

enum class QuantizationType : int32_t { kNone = 0, kAffine = 1, kBlockwise = 2, kMultiAxis = 3 };

enum class Padding : int32_t { kUnknown = 0, kSame = 1, kValid = 2 };

enum class Activation : int32_t {
  kNone = 0,
  kRelu = 1,
  kReluN1To1 = 2,
  kRelu6 = 3,
  kTanh = 4,
  kSignBit = 5,
  kSigmoid = 6
};

enum BuiltinOp : int32_t {
  kAdd = 0,
  kAveragePool2D = 1,
  kConcatenation = 2,
  kConv2D = 3,
  kDepthwiseConv2D = 4,
  kDequantize = 6,
  kFullyConnected = 9,
  kLogistic = 14,
  kMaxPool2D = 17,
  kMul = 18,
  kRelu = 19,
  kReluN1To1 = 20,
  kRelu6 = 21,
  kReshape = 22,
  kSoftmax = 25,
  kCustom = 32,
  kPad = 34,
  kTranspose = 39,
  kMean = 40,
  kSub = 41,
  kDelegateOp = 51,
  kRsqrt = 76,
  kSquaredDifference = 99,
  kQuantize = 114,
  kHardSwish = 117,
  kBatchMatmul = 126,
};

// Index of an input that an operator was given none for.
constexpr int kOptionalTensor = -1;

// Arrays are one malloc block: the count, then the elements. Whoever receives one frees it with free().
struct IntArray {
  int32_t size;
  int32_t data[];

  const int32_t* begin() const { return data; }
  const int32_t* end() const { return data + size; }
};

struct FloatArray {
  int32_t size;
  float data[];
};

inline IntArray* NewIntArray(int32_t size) {
  const size_t bytes = offsetof(IntArray, data) + sizeof(int32_t) * static_cast<size_t>(size);
  IntArray* array = static_cast<IntArray*>(std::malloc(bytes));
  if (array != nullptr) array->size = size;
  return array;
}

struct QuantizationParams {
  float scale;
  int32_t zero_point;
};

struct AffineQuantization {
  FloatArray* scale;
  IntArray* zero_point;
  int32_t quantized_dimension;
};

struct BlockwiseQuantization {
  int32_t scale_tensor;
  int32_t zero_point_tensor;
  int32_t block_size;
  int32_t quantized_dimension;
};

struct Quantization {
  QuantizationType type;
  void* params;  // an AffineQuantization or a BlockwiseQuantization, as `type` says
};

struct Delegate;

struct Tensor {
  Type type;
  void* data;
  IntArray* dims;
  QuantizationParams params;
  AllocationType allocation_type;
  size_t bytes;
  const void* unused_allocation;
  const char* name;
  Delegate* delegate;
  int32_t unused_buffer_handle;
  bool unused_data_is_stale;
  bool is_variable;
  Quantization quantization;
  void* sparsity;
  const IntArray* unused_dims_signature;
};

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* unused_intermediates;
  IntArray* unused_temporaries;
  void* user_data;
  void* builtin_data;  // ConvParams, DepthwiseParams, DenseParams, ...
  const void* unused_custom_initial_data;
  int32_t unused_custom_initial_data_size;
  Delegate* delegate;
  bool unused_might_have_side_effect;
};

struct Context;

struct Registration {
  void* (*init)(Context* context, const char* buffer, size_t length);
  void (*free)(Context* context, void* user_data);
  Status (*prepare)(Context* context, Node* node);
  Status (*invoke)(Context* context, Node* node);
  const char* (*profiling_string)(const Context* context, const Node* node);
  int32_t builtin_code;
  const char* custom_name;
  int32_t version;
  void* unused_registration_external;
  void* unused_async_kernel;
  uint64_t unused_inplace_operator;
};

// What init() of a delegate's kernel gets as its buffer.
struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context*, IntArray** plan);
  Tensor* tensors;
  void* unused_impl;
  Status (*ResizeTensor)(Context*, Tensor*, IntArray* new_dims);  // takes over new_dims
  void (*ReportError)(Context*, const char* format, ...);
  void* unused_add_tensors;
  Status (*GetNodeAndRegistration)(Context*, int32_t node_index, Node**, Registration**);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context*, Registration, const IntArray* nodes, Delegate*);
  int32_t recommended_num_threads;
  void* unused_get_external_context;
  void* unused_set_external_context;
  bool unused_allow_fp32_relax_to_fp16;
  void* unused_profiler;
  void* unused_allocate_persistent_buffer;
  void* unused_allocate_buffer_for_eval;
  void* unused_request_scratch_buffer;
  void* unused_get_scratch_buffer;
  void* unused_resize_tensor_explicit;
  // What ReplaceNodeSubsetsWithDelegateKernels would make; the runtime keeps the result.
  Status (*PreviewDelegatePartitioning)(Context*, const IntArray* nodes, DelegateParams** partitions, int32_t* count);
  void* unused_get_tensor;
  void* unused_get_eval_tensor;
  void* unused_get_model_metadata;
  void* unused_acquire_subgraph_context;
  void* unused_release_subgraph_context;
};

// The delegate is asked before the runtime prepares the nodes; its kernels set the shapes of their outputs themselves.
constexpr int64_t kDelegateAllowsDynamicTensors = 1;

struct Delegate {
  void* data;
  Status (*Prepare)(Context*, Delegate*);
  void* unused_copy_from_buffer_handle;
  void* unused_copy_to_buffer_handle;
  void* unused_free_buffer_handle;
  int64_t flags;
  void* unused_opaque_builder;
};

// Later runtimes append members to the parameters of an operator; only those that 2.14 has are read.
struct ConvParams {
  Padding padding;
  int32_t stride_width;
  int32_t stride_height;
  Activation activation;
  int32_t dilation_width;
  int32_t dilation_height;
};

struct DepthwiseParams {
  Padding padding;
  int32_t stride_width;
  int32_t stride_height;
  int32_t unused_depth_multiplier;  // follows from the shapes; the runtime ignores it too
  Activation activation;
  int32_t dilation_width;
  int32_t dilation_height;
};

struct DenseParams {
  Activation activation;
  int32_t weights_format;  // 0: row-major
  uint8_t keep_num_dims;   // a bool, read as a byte: one from elsewhere may be neither 0 nor 1
  bool unused_asymmetric_quantize_inputs;
};

struct PoolParams {
  Padding padding;
  int32_t stride_width;
  int32_t stride_height;
  int32_t filter_width;
  int32_t filter_height;
  Activation activation;
};

// Of ADD, SUB and MUL.
struct ArithmeticParams {
  Activation activation;
};

struct ConcatenationParams {
  int32_t axis;
  Activation activation;
};

struct BatchMatmulParams {
  uint8_t adjoint_first;  // bools
  uint8_t adjoint_second;
  uint8_t unused_asymmetric_quantize_inputs;
};

struct ReducerParams {
  uint8_t keep_dims;  // a bool
};

struct SoftmaxParams {
  float beta;
};

static_assert(sizeof(void*) == 8, "the layouts below are those of 64-bit platforms");
static_assert(sizeof(Registration) == 88);
static_assert(offsetof(Registration, builtin_code) == 40);
static_assert(offsetof(Registration, custom_name) == 48);
static_assert(sizeof(Delegate) == 56);
static_assert(offsetof(Delegate, flags) == 40);
static_assert(sizeof(Context) == 200);
static_assert(offsetof(Context, ReplaceNodeSubsetsWithDelegateKernels) == 64);
static_assert(offsetof(Context, recommended_num_threads) == 72);
static_assert(sizeof(Tensor) == 112);
static_assert(offsetof(Tensor, dims) == 16);
static_assert(offsetof(Tensor, params) == 24);
static_assert(offsetof(Tensor, bytes) == 40);
static_assert(offsetof(Tensor, name) == 56);
static_assert(offsetof(Tensor, quantization) == 80);
static_assert(offsetof(Tensor, sparsity) == 96);
static_assert(sizeof(Node) == 80);
static_assert(offsetof(Node, builtin_data) == 40);
static_assert(offsetof(Node, delegate) == 64);
static_assert(sizeof(DelegateParams) == 32);
static_assert(sizeof(AffineQuantization) == 24);
static_assert(sizeof(BlockwiseQuantization) == 16);
static_assert(sizeof(ConvParams) == 24);
static_assert(sizeof(DepthwiseParams) == 28);
static_assert(offsetof(DenseParams, keep_num_dims) == 8);

}  // namespace tfq::abi

#endif  // TFQ_DELEGATES_INT4_ABI_TFLITE_H_
