// The LiteRT 2.x runtime (libLiteRt.so of the ai-edge-litert wheel).
//
// LiteRT has no external delegates. It has accelerators: objects whose job is to hand over a delegate when a model is
// compiled, applied in the order in which they were registered. The runner registers two of its own: one that hands
// over the plugin's delegate, and behind it one that makes the library's own XNNPACK delegate, so that the plugin
// chooses its nodes first, as in the TFLite interpreter. The XNNPACK accelerator that the library registers by itself,
// ahead of both, is told to stand back (kernel_mode builtin).

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <tuple>

#include "android_bench/runner/litert_abi.h"
#include "android_bench/runner/runtime.h"

namespace tfq::runner {
namespace {

using namespace litert;  // NOLINT: the handles and constants of one small header

struct Api {
  Code (*CreateEnvironment)(int, const void*, EnvironmentT**);
  void (*DestroyEnvironment)(EnvironmentT*);
  Code (*CreateModelFromFile)(EnvironmentT*, const char*, ModelT**);
  void (*DestroyModel)(ModelT*);
  Code (*CreateOptions)(OptionsT**);
  void (*DestroyOptions)(OptionsT*);
  Code (*SetOptionsHardwareAccelerators)(OptionsT*, int);
  Code (*CreateOpaqueOptions)(const char*, void*, void (*)(void*), OpaqueOptionsT**);
  Code (*AddOpaqueOptions)(OptionsT*, OpaqueOptionsT*);
  Code (*CreateCompiledModel)(EnvironmentT*, ModelT*, OptionsT*, CompiledModelT**);
  void (*DestroyCompiledModel)(CompiledModelT*);
  Code (*GetNumModelSubgraphs)(ModelT*, size_t*);
  Code (*GetModelSignature)(ModelT*, size_t, SignatureT**);
  Code (*GetSignatureSubgraph)(SignatureT*, SubgraphT**);
  Code (*GetNumSignatureInputs)(SignatureT*, size_t*);
  Code (*GetNumSignatureOutputs)(SignatureT*, size_t*);
  Code (*GetSignatureInputTensorByIndex)(SignatureT*, size_t, TensorT**);
  Code (*GetSignatureOutputTensorByIndex)(SignatureT*, size_t, TensorT**);
  Code (*GetNumSubgraphOps)(SubgraphT*, size_t*);
  Code (*GetSubgraphInput)(SubgraphT*, size_t, TensorT**);
  Code (*GetSubgraphOutput)(SubgraphT*, size_t, TensorT**);
  Code (*GetTensorName)(TensorT*, const char**);
  Code (*GetRankedTensorType)(TensorT*, RankedTensorType*);
  Code (*GetCompiledModelInputBufferRequirements)(CompiledModelT*, size_t, size_t, RequirementsT**);
  Code (*GetCompiledModelOutputBufferRequirements)(CompiledModelT*, size_t, size_t, RequirementsT**);
  Code (*GetCompiledModelInputTensorLayout)(CompiledModelT*, size_t, size_t, Layout*);
  Code (*GetCompiledModelOutputTensorLayouts)(CompiledModelT*, size_t, size_t, Layout*, bool);
  Code (*CreateManagedTensorBufferFromRequirements)(EnvironmentT*, const RankedTensorType*, RequirementsT*,
                                                    TensorBufferT**);
  Code (*GetTensorBufferPackedSize)(TensorBufferT*, size_t*);
  Code (*LockTensorBuffer)(TensorBufferT*, void**, int);
  Code (*UnlockTensorBuffer)(TensorBufferT*);
  void (*DestroyTensorBuffer)(TensorBufferT*);
  Code (*RunCompiledModel)(CompiledModelT*, size_t, size_t, TensorBufferT**, size_t, TensorBufferT**);
  Code (*CreateAccelerator)(AcceleratorT**);
  Code (*SetAcceleratorGetName)(AcceleratorT*, Code (*)(const AcceleratorT*, const char**));
  Code (*SetAcceleratorGetVersion)(AcceleratorT*, Code (*)(const AcceleratorT*, Version*));
  Code (*SetAcceleratorGetHardwareSupport)(AcceleratorT*, Code (*)(const AcceleratorT*, int*));
  Code (*SetDelegateFunction)(AcceleratorT*, Code (*)(RuntimeContextT*, EnvironmentT*, const AcceleratorT*, OptionsT*,
                                                      DelegateWrapperT**));
  Code (*RegisterAccelerator)(EnvironmentT*, AcceleratorT*, void*, void (*)(void*));
  Code (*WrapDelegate)(TfLiteDelegate*, void (*)(TfLiteDelegate*), DelegateWrapperT**);
  Code (*CompiledModelGetProfiler)(CompiledModelT*, ProfilerT**);
  Code (*StartProfiler)(ProfilerT*);
  Code (*StopProfiler)(ProfilerT*);
  Code (*GetNumProfilerEvents)(ProfilerT*, int*);
  Code (*GetProfilerEvents)(ProfilerT*, int, ProfiledEvent*);
  const AcceleratorDefinition* const* cpu_definition;
};

Status Load(const Library& library, Api* api) {
#define TFQ_BIND(name) TFQ_RETURN_IF_ERROR(library.Bind("LiteRt" #name, &api->name))
  TFQ_BIND(CreateEnvironment);
  TFQ_BIND(DestroyEnvironment);
  TFQ_BIND(CreateModelFromFile);
  TFQ_BIND(DestroyModel);
  TFQ_BIND(CreateOptions);
  TFQ_BIND(DestroyOptions);
  TFQ_BIND(SetOptionsHardwareAccelerators);
  TFQ_BIND(CreateOpaqueOptions);
  TFQ_BIND(AddOpaqueOptions);
  TFQ_BIND(CreateCompiledModel);
  TFQ_BIND(DestroyCompiledModel);
  TFQ_BIND(GetNumModelSubgraphs);
  TFQ_BIND(GetModelSignature);
  TFQ_BIND(GetSignatureSubgraph);
  TFQ_BIND(GetNumSignatureInputs);
  TFQ_BIND(GetNumSignatureOutputs);
  TFQ_BIND(GetSignatureInputTensorByIndex);
  TFQ_BIND(GetSignatureOutputTensorByIndex);
  TFQ_BIND(GetNumSubgraphOps);
  TFQ_BIND(GetSubgraphInput);
  TFQ_BIND(GetSubgraphOutput);
  TFQ_BIND(GetTensorName);
  TFQ_BIND(GetRankedTensorType);
  TFQ_BIND(GetCompiledModelInputBufferRequirements);
  TFQ_BIND(GetCompiledModelOutputBufferRequirements);
  TFQ_BIND(GetCompiledModelInputTensorLayout);
  TFQ_BIND(GetCompiledModelOutputTensorLayouts);
  TFQ_BIND(CreateManagedTensorBufferFromRequirements);
  TFQ_BIND(GetTensorBufferPackedSize);
  TFQ_BIND(LockTensorBuffer);
  TFQ_BIND(UnlockTensorBuffer);
  TFQ_BIND(DestroyTensorBuffer);
  TFQ_BIND(RunCompiledModel);
  TFQ_BIND(CreateAccelerator);
  TFQ_BIND(SetAcceleratorGetName);
  TFQ_BIND(SetAcceleratorGetVersion);
  TFQ_BIND(SetAcceleratorGetHardwareSupport);
  TFQ_BIND(SetDelegateFunction);
  TFQ_BIND(RegisterAccelerator);
  TFQ_BIND(WrapDelegate);
  TFQ_BIND(CompiledModelGetProfiler);
  TFQ_BIND(StartProfiler);
  TFQ_BIND(StopProfiler);
  TFQ_BIND(GetNumProfilerEvents);
  TFQ_BIND(GetProfilerEvents);
#undef TFQ_BIND
  return library.Bind("LiteRtStaticLinkedAcceleratorCpuDef", &api->cpu_definition);
}

// LiteRT's callbacks carry no user data that a released library lets us read back, and one process runs one model.
struct Handover {
  const Api* api = nullptr;
  TfLiteDelegate* delegate = nullptr;
  OptionsT* xnnpack_options = nullptr;
};
Handover g_handover;

Code PluginName(const AcceleratorT*, const char** name) {
  *name = "TfqPlugin";
  return kOk;
}

Code XnnpackName(const AcceleratorT*, const char** name) {
  *name = "TfqXnnpack";
  return kOk;
}

Code OneVersion(const AcceleratorT*, Version* version) {
  *version = {1, 0, 0};
  return kOk;
}

Code CpuHardware(const AcceleratorT*, int* hardware) {
  *hardware = kHardwareCpu;
  return kOk;
}

// The plugin keeps its delegate: it is destroyed after the runtime, by its owner.
void KeepDelegate(TfLiteDelegate*) {}

Code HandOverPlugin(RuntimeContextT*, EnvironmentT*, const AcceleratorT*, OptionsT*, DelegateWrapperT** wrapper) {
  return g_handover.api->WrapDelegate(g_handover.delegate, KeepDelegate, wrapper);
}

Code HandOverXnnpack(RuntimeContextT* context, EnvironmentT* environment, const AcceleratorT* accelerator, OptionsT*,
                     DelegateWrapperT** wrapper) {
  return (*g_handover.api->cpu_definition)
      ->create_delegate(context, environment, accelerator, g_handover.xnnpack_options, wrapper);
}

Status Check(Code code, const std::string& doing) {
  if (code == kOk) return Status::Ok();
  return Status::Error(doing + ": LiteRT answered with status " + std::to_string(code));
}

class LiteRtRuntime : public Runtime {
 public:
  ~LiteRtRuntime() override {
    for (TensorBufferT* buffer : inputs_.buffers) api_.DestroyTensorBuffer(buffer);
    for (TensorBufferT* buffer : outputs_.buffers) api_.DestroyTensorBuffer(buffer);
    if (compiled_ != nullptr) api_.DestroyCompiledModel(compiled_);
    if (xnnpack_options_ != nullptr) api_.DestroyOptions(xnnpack_options_);
    if (options_ != nullptr) api_.DestroyOptions(options_);
    if (model_ != nullptr) api_.DestroyModel(model_);
    if (environment_ != nullptr) api_.DestroyEnvironment(environment_);
  }

  Status Open(const RuntimeConfig& config) override {
    TFQ_RETURN_IF_ERROR(library_.Open(config.library));
    TFQ_RETURN_IF_ERROR(Load(library_, &api_));
    TFQ_RETURN_IF_ERROR(Check(api_.CreateEnvironment(0, nullptr, &environment_), "create the environment"));
    TFQ_RETURN_IF_ERROR(OpenModel(config.graph));
    TFQ_RETURN_IF_ERROR(MakeOptions(config, config.delegate == nullptr && config.use_xnnpack, &options_));
    if (config.delegate != nullptr) {
      g_handover.api = &api_;
      g_handover.delegate = config.delegate;
      TFQ_RETURN_IF_ERROR(Register(PluginName, HandOverPlugin));
      if (config.use_xnnpack) {
        TFQ_RETURN_IF_ERROR(MakeOptions(config, true, &xnnpack_options_));
        g_handover.xnnpack_options = xnnpack_options_;
        TFQ_RETURN_IF_ERROR(Register(XnnpackName, HandOverXnnpack));
      }
    }
    if (const Code code = api_.CreateCompiledModel(environment_, model_, options_, &compiled_); code != kOk) {
      const std::string line = "LiteRT cannot prepare " + config.graph + " (status " + std::to_string(code) + ")";
      // With a delegate it is not clear whose fault it is; alone, the runtime has judged the file.
      return config.delegate != nullptr ? Status::Error(line + " with this delegate") : Status::BadInput(line);
    }
    TFQ_RETURN_IF_ERROR(MakeBuffers());
    if (config.profile) {
      TFQ_RETURN_IF_ERROR(Check(api_.CompiledModelGetProfiler(compiled_, &profiler_), "get the profiler"));
    }
    return Status::Ok();
  }

  const char* name() const override { return "litert"; }
  std::string version() const override { return ""; }
  int64_t nodes() const override { return nodes_; }
  const std::vector<TensorInfo>& inputs() const override { return inputs_.tensors; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_.tensors; }

  Status Write(size_t input, const void* data) override {
    void* memory = nullptr;
    TensorBufferT* buffer = inputs_.buffers[inputs_.slots[input]];
    TFQ_RETURN_IF_ERROR(Check(api_.LockTensorBuffer(buffer, &memory, kLockWrite), "lock input"));
    std::memcpy(memory, data, inputs_.tensors[input].bytes);
    return Check(api_.UnlockTensorBuffer(buffer), "unlock input");
  }

  Status Invoke() override {
    return Check(api_.RunCompiledModel(compiled_, 0, inputs_.buffers.size(), inputs_.buffers.data(),
                                       outputs_.buffers.size(), outputs_.buffers.data()),
                 "run the model");
  }

  Status Read(size_t output, void* data) override {
    void* memory = nullptr;
    TensorBufferT* buffer = outputs_.buffers[outputs_.slots[output]];
    TFQ_RETURN_IF_ERROR(Check(api_.LockTensorBuffer(buffer, &memory, kLockRead), "lock output"));
    std::memcpy(data, memory, outputs_.tensors[output].bytes);
    return Check(api_.UnlockTensorBuffer(buffer), "unlock output");
  }

  Status StartProfile() override { return Check(api_.StartProfiler(profiler_), "start the profiler"); }

  Status StopProfile(std::vector<OpTime>* ops) override {
    TFQ_RETURN_IF_ERROR(Check(api_.StopProfiler(profiler_), "stop the profiler"));
    int count = 0;
    TFQ_RETURN_IF_ERROR(Check(api_.GetNumProfilerEvents(profiler_, &count), "count profiled events"));
    std::vector<ProfiledEvent> events(static_cast<size_t>(count));
    if (count > 0) {
      TFQ_RETURN_IF_ERROR(Check(api_.GetProfilerEvents(profiler_, count, events.data()), "read profiled events"));
    }
    std::map<std::tuple<int32_t, uint64_t, std::string>, OpTime> table;
    for (const ProfiledEvent& event : events) {
      if ((event.type & (kEventOperator | kEventInsideDelegate)) == 0 || event.tag == nullptr) continue;
      OpTime& op = table[{event.type, event.node, event.tag}];
      op.name = event.tag;
      op.node = static_cast<int64_t>(event.node);
      op.inside_delegate = event.type == kEventInsideDelegate;
      op.calls += 1;
      op.total_ns += static_cast<int64_t>(event.elapsed_us) * 1000;
    }
    for (auto& [key, op] : table) ops->push_back(op);
    return Status::Ok();
  }

 private:
  Status OpenModel(const std::string& graph) {
    if (access(graph.c_str(), R_OK) != 0) return Status::BadInput("no model file " + graph);
    const Code code = api_.CreateModelFromFile(environment_, graph.c_str(), &model_);
    if (code != kOk) {
      return Status::BadInput(graph + " is not a .tflite file that LiteRT reads (status " + std::to_string(code) + ")");
    }
    size_t subgraphs = 0;
    TFQ_RETURN_IF_ERROR(Check(api_.GetNumModelSubgraphs(model_, &subgraphs), "count the subgraphs"));
    if (subgraphs == 0) return Status::BadInput(graph + " is not a whole .tflite file: LiteRT finds no graph in it");
    return Status::Ok();
  }

  Status MakeOptions(const RuntimeConfig& config, bool xnnpack, OptionsT** options) {
    TFQ_RETURN_IF_ERROR(Check(api_.CreateOptions(options), "create options"));
    TFQ_RETURN_IF_ERROR(Check(api_.SetOptionsHardwareAccelerators(*options, kHardwareCpu), "choose the CPU"));
    const std::string cpu = "num_threads = " + std::to_string(config.threads) + "\nkernel_mode = \"" +
                            (xnnpack ? "delegate" : "builtin") + "\"\n";
    TFQ_RETURN_IF_ERROR(AddOption(*options, "xnnpack", cpu));
    return AddOption(*options, "runtime_options_string",
                     config.profile ? "enable_profiling = true\n" : "enable_profiling = false\n");
  }

  // LiteRT's options travel as TOML text under a name.
  Status AddOption(OptionsT* options, const char* name, const std::string& text) {
    OpaqueOptionsT* opaque = nullptr;
    const std::string doing = std::string("set LiteRT's ") + name + " options";
    TFQ_RETURN_IF_ERROR(Check(api_.CreateOpaqueOptions(name, strdup(text.c_str()), std::free, &opaque), doing));
    return Check(api_.AddOpaqueOptions(options, opaque), doing);
  }

  Status Register(Code (*name)(const AcceleratorT*, const char**),
                  Code (*create)(RuntimeContextT*, EnvironmentT*, const AcceleratorT*, OptionsT*, DelegateWrapperT**)) {
    AcceleratorT* accelerator = nullptr;
    const std::string doing = "register the delegate with LiteRT";
    TFQ_RETURN_IF_ERROR(Check(api_.CreateAccelerator(&accelerator), doing));
    TFQ_RETURN_IF_ERROR(Check(api_.SetAcceleratorGetName(accelerator, name), doing));
    TFQ_RETURN_IF_ERROR(Check(api_.SetAcceleratorGetVersion(accelerator, OneVersion), doing));
    TFQ_RETURN_IF_ERROR(Check(api_.SetAcceleratorGetHardwareSupport(accelerator, CpuHardware), doing));
    TFQ_RETURN_IF_ERROR(Check(api_.SetDelegateFunction(accelerator, create), doing));
    return Check(api_.RegisterAccelerator(environment_, accelerator, nullptr, nullptr), doing);
  }

  Status Describe(TensorT* tensor, TensorInfo* info, RankedTensorType* type) {
    const char* name = nullptr;
    TFQ_RETURN_IF_ERROR(Check(api_.GetTensorName(tensor, &name), "read a tensor's name"));
    info->name = name;
    TFQ_RETURN_IF_ERROR(Check(api_.GetRankedTensorType(tensor, type), "read the type of tensor " + info->name));
    info->type = type->element_type;
    return Status::Ok();
  }

  Status MakeBuffers() {
    SignatureT* signature = nullptr;
    SubgraphT* subgraph = nullptr;
    TFQ_RETURN_IF_ERROR(Check(api_.GetModelSignature(model_, 0, &signature), "read the signature"));
    TFQ_RETURN_IF_ERROR(Check(api_.GetSignatureSubgraph(signature, &subgraph), "read the subgraph"));
    size_t nodes = 0;
    TFQ_RETURN_IF_ERROR(Check(api_.GetNumSubgraphOps(subgraph, &nodes), "count the nodes"));
    nodes_ = static_cast<int64_t>(nodes);

    size_t count = 0;
    TFQ_RETURN_IF_ERROR(Check(api_.GetNumSignatureInputs(signature, &count), "count the inputs"));
    std::vector<Layout> layouts(count);
    for (size_t i = 0; i < count; ++i) {
      TFQ_RETURN_IF_ERROR(
          Check(api_.GetCompiledModelInputTensorLayout(compiled_, 0, i, &layouts[i]), "read input shapes"));
    }
    TFQ_RETURN_IF_ERROR(MakeSide({signature, subgraph, api_.GetSignatureInputTensorByIndex, api_.GetSubgraphInput,
                                  api_.GetCompiledModelInputBufferRequirements},
                                 layouts, &inputs_));
    TFQ_RETURN_IF_ERROR(Check(api_.GetNumSignatureOutputs(signature, &count), "count the outputs"));
    layouts.resize(count);
    TFQ_RETURN_IF_ERROR(Check(api_.GetCompiledModelOutputTensorLayouts(compiled_, 0, count, layouts.data(), false),
                              "read output shapes"));
    return MakeSide({signature, subgraph, api_.GetSignatureOutputTensorByIndex, api_.GetSubgraphOutput,
                     api_.GetCompiledModelOutputBufferRequirements},
                    layouts, &outputs_);
  }

  // Where the tensors of one side, inputs or outputs, are found.
  struct SideSource {
    SignatureT* signature;
    SubgraphT* subgraph;
    Code (*by_signature)(SignatureT*, size_t, TensorT**);
    Code (*by_subgraph)(SubgraphT*, size_t, TensorT**);
    Code (*requirements)(CompiledModelT*, size_t, size_t, RequirementsT**);
  };

  // Buffers lie in the signature's order, which LiteRT runs by; tensors in the subgraph's, which users know.
  struct Side {
    std::vector<TensorInfo> tensors;
    std::vector<size_t> slots;  // subgraph order to signature order
    std::vector<TensorBufferT*> buffers;
  };

  Status MakeSide(const SideSource& source, const std::vector<Layout>& layouts, Side* side) {
    std::map<TensorT*, size_t> slot_of;
    std::vector<TensorInfo> by_slot(layouts.size());
    for (size_t i = 0; i < layouts.size(); ++i) {
      TensorT* tensor = nullptr;
      TensorInfo& info = by_slot[i];
      RankedTensorType type = {};
      RequirementsT* requirements = nullptr;
      TensorBufferT* buffer = nullptr;
      TFQ_RETURN_IF_ERROR(Check(source.by_signature(source.signature, i, &tensor), "read a tensor of the signature"));
      TFQ_RETURN_IF_ERROR(Describe(tensor, &info, &type));
      type.layout = layouts[i];  // the file may leave the batch open; the compiled model has settled it
      info.shape.assign(layouts[i].dimensions, layouts[i].dimensions + layouts[i].rank);
      TFQ_RETURN_IF_ERROR(Check(source.requirements(compiled_, 0, i, &requirements), "size tensor " + info.name));
      TFQ_RETURN_IF_ERROR(
          Check(api_.CreateManagedTensorBufferFromRequirements(environment_, &type, requirements, &buffer),
                "allocate tensor " + info.name));
      side->buffers.push_back(buffer);
      TFQ_RETURN_IF_ERROR(Check(api_.GetTensorBufferPackedSize(buffer, &info.bytes), "size tensor " + info.name));
      slot_of[tensor] = i;
    }
    for (size_t i = 0; i < layouts.size(); ++i) {
      TensorT* tensor = nullptr;
      TFQ_RETURN_IF_ERROR(Check(source.by_subgraph(source.subgraph, i, &tensor), "read a tensor of the subgraph"));
      const auto found = slot_of.find(tensor);
      if (found == slot_of.end())
        return Status::Error("the model's first signature does not name all its inputs and outputs");
      side->slots.push_back(found->second);
      side->tensors.push_back(by_slot[found->second]);
    }
    return Status::Ok();
  }

  Library library_;
  Api api_ = {};
  EnvironmentT* environment_ = nullptr;
  ModelT* model_ = nullptr;
  OptionsT* options_ = nullptr;
  OptionsT* xnnpack_options_ = nullptr;
  CompiledModelT* compiled_ = nullptr;
  ProfilerT* profiler_ = nullptr;
  int64_t nodes_ = -1;
  Side inputs_;
  Side outputs_;
};

}  // namespace

std::unique_ptr<Runtime> MakeLiteRtRuntime() { return std::make_unique<LiteRtRuntime>(); }

}  // namespace tfq::runner
