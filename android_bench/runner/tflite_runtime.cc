// The TensorFlow Lite C API (Debian's libtensorflow-lite and other builds that export TfLiteInterpreterCreate).

#include <unistd.h>

#include "android_bench/runner/runtime.h"

namespace tfq::runner {
namespace {

struct ModelT;
struct OptionsT;
struct InterpreterT;
struct TensorT;

struct Api {
  const char* (*Version)();
  ModelT* (*ModelCreateFromFile)(const char*);
  void (*ModelDelete)(ModelT*);
  OptionsT* (*InterpreterOptionsCreate)();
  void (*InterpreterOptionsDelete)(OptionsT*);
  void (*InterpreterOptionsSetNumThreads)(OptionsT*, int32_t);
  void (*InterpreterOptionsAddDelegate)(OptionsT*, TfLiteDelegate*);
  InterpreterT* (*InterpreterCreate)(const ModelT*, const OptionsT*);
  void (*InterpreterDelete)(InterpreterT*);
  int (*InterpreterAllocateTensors)(InterpreterT*);
  int32_t (*InterpreterGetInputTensorCount)(const InterpreterT*);
  int32_t (*InterpreterGetOutputTensorCount)(const InterpreterT*);
  TensorT* (*InterpreterGetInputTensor)(const InterpreterT*, int32_t);
  const TensorT* (*InterpreterGetOutputTensor)(const InterpreterT*, int32_t);
  int (*InterpreterInvoke)(InterpreterT*);
  int (*TensorType)(const TensorT*);
  const char* (*TensorName)(const TensorT*);
  int32_t (*TensorNumDims)(const TensorT*);
  int32_t (*TensorDim)(const TensorT*, int32_t);
  size_t (*TensorByteSize)(const TensorT*);
  int (*TensorCopyFromBuffer)(TensorT*, const void*, size_t);
  int (*TensorCopyToBuffer)(const TensorT*, void*, size_t);
};

Status Load(const Library& library, Api* api) {
#define TFQ_BIND(name) TFQ_RETURN_IF_ERROR(library.Bind("TfLite" #name, &api->name))
  TFQ_BIND(Version);
  TFQ_BIND(ModelCreateFromFile);
  TFQ_BIND(ModelDelete);
  TFQ_BIND(InterpreterOptionsCreate);
  TFQ_BIND(InterpreterOptionsDelete);
  TFQ_BIND(InterpreterOptionsSetNumThreads);
  TFQ_BIND(InterpreterOptionsAddDelegate);
  TFQ_BIND(InterpreterCreate);
  TFQ_BIND(InterpreterDelete);
  TFQ_BIND(InterpreterAllocateTensors);
  TFQ_BIND(InterpreterGetInputTensorCount);
  TFQ_BIND(InterpreterGetOutputTensorCount);
  TFQ_BIND(InterpreterGetInputTensor);
  TFQ_BIND(InterpreterGetOutputTensor);
  TFQ_BIND(InterpreterInvoke);
  TFQ_BIND(TensorType);
  TFQ_BIND(TensorName);
  TFQ_BIND(TensorNumDims);
  TFQ_BIND(TensorDim);
  TFQ_BIND(TensorByteSize);
  TFQ_BIND(TensorCopyFromBuffer);
  TFQ_BIND(TensorCopyToBuffer);
#undef TFQ_BIND
  return Status::Ok();
}

class TfLiteRuntime : public Runtime {
 public:
  ~TfLiteRuntime() override {
    if (interpreter_ != nullptr) api_.InterpreterDelete(interpreter_);
    if (options_ != nullptr) api_.InterpreterOptionsDelete(options_);
    if (model_ != nullptr) api_.ModelDelete(model_);
  }

  Status Open(const RuntimeConfig& config) override {
    if (config.profile) {
      return Status::BadInput("--enable_op_profiling: the TFLite C API cannot profile; use --runtime=litert");
    }
    TFQ_RETURN_IF_ERROR(library_.Open(config.library));
    TFQ_RETURN_IF_ERROR(Load(library_, &api_));
    if (access(config.graph.c_str(), R_OK) != 0) return Status::BadInput("no model file " + config.graph);
    model_ = api_.ModelCreateFromFile(config.graph.c_str());
    if (model_ == nullptr) return Status::BadInput(config.graph + " is not a .tflite file that TFLite reads");
    options_ = api_.InterpreterOptionsCreate();
    api_.InterpreterOptionsSetNumThreads(options_, config.threads);
    if (config.delegate != nullptr) api_.InterpreterOptionsAddDelegate(options_, config.delegate);
    interpreter_ = api_.InterpreterCreate(model_, options_);
    if (interpreter_ == nullptr)
      return Status::Error("TFLite " + version() + " cannot build an interpreter for " + config.graph);
    if (api_.InterpreterAllocateTensors(interpreter_) != 0) {
      return Status::Error("TFLite " + version() + " cannot prepare " + config.graph +
                           " (its log names the node); an older runtime may lack the op or its types");
    }
    for (int32_t i = 0; i < api_.InterpreterGetInputTensorCount(interpreter_); ++i) {
      inputs_.push_back(Describe(api_.InterpreterGetInputTensor(interpreter_, i)));
    }
    for (int32_t i = 0; i < api_.InterpreterGetOutputTensorCount(interpreter_); ++i) {
      outputs_.push_back(Describe(api_.InterpreterGetOutputTensor(interpreter_, i)));
    }
    return Status::Ok();
  }

  const char* name() const override { return "tflite"; }
  std::string version() const override { return api_.Version(); }
  int64_t nodes() const override { return -1; }
  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }

  Status Write(size_t input, const void* data) override {
    TensorT* tensor = api_.InterpreterGetInputTensor(interpreter_, static_cast<int32_t>(input));
    return Check(api_.TensorCopyFromBuffer(tensor, data, inputs_[input].bytes), "write input");
  }

  Status Invoke() override { return Check(api_.InterpreterInvoke(interpreter_), "run the model"); }

  Status Read(size_t output, void* data) override {
    const TensorT* tensor = api_.InterpreterGetOutputTensor(interpreter_, static_cast<int32_t>(output));
    return Check(api_.TensorCopyToBuffer(tensor, data, outputs_[output].bytes), "read output");
  }

  Status StartProfile() override { return Status::Error("the TFLite C API cannot profile"); }
  Status StopProfile(std::vector<OpTime>*) override { return Status::Error("the TFLite C API cannot profile"); }

 private:
  static Status Check(int code, const std::string& doing) {
    if (code == 0) return Status::Ok();
    return Status::Error(doing + ": TFLite answered with status " + std::to_string(code));
  }

  TensorInfo Describe(const TensorT* tensor) const {
    TensorInfo info;
    info.name = api_.TensorName(tensor);
    info.type = api_.TensorType(tensor);
    for (int32_t d = 0; d < api_.TensorNumDims(tensor); ++d) info.shape.push_back(api_.TensorDim(tensor, d));
    info.bytes = api_.TensorByteSize(tensor);
    return info;
  }

  Library library_;
  Api api_ = {};
  ModelT* model_ = nullptr;
  OptionsT* options_ = nullptr;
  InterpreterT* interpreter_ = nullptr;
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
};

}  // namespace

std::unique_ptr<Runtime> MakeTfLiteRuntime() { return std::make_unique<TfLiteRuntime>(); }

}  // namespace tfq::runner
