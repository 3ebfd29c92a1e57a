// tfq_runner: runs one .tflite model on the machine it stands on and prints what it measured as JSON.
//
// Without --input it measures: warm-up runs, then runs until --num_runs and --min_secs are both reached or --max_secs
// is over. With --input it computes: every sample in the raw input files goes through the model once and the raw
// outputs go to --output.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>

#include "android_bench/runner/files.h"
#include "android_bench/runner/flags.h"
#include "android_bench/runner/json.h"
#include "android_bench/runner/memory.h"
#include "android_bench/runner/runtime.h"

namespace tfq::runner {
namespace {

using Clock = std::chrono::steady_clock;

int64_t NanosSince(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

struct Measured {
  int64_t init_ns = 0;
  std::vector<int64_t> warmup_ns;
  std::vector<int64_t> runs_ns;
  int64_t samples = 0;
  Memory before;
  Memory after_init;
  Memory after_runs;
  std::vector<OpTime> ops;
};

Status TimedInvoke(Runtime* runtime, std::vector<int64_t>* times) {
  const Clock::time_point start = Clock::now();
  TFQ_RETURN_IF_ERROR(runtime->Invoke());
  times->push_back(NanosSince(start));
  return Status::Ok();
}

// Integers take every value of their type, floats lie in [0, 1).
void FillRandom(const TensorInfo& info, std::mt19937_64* random, std::vector<uint8_t>* bytes) {
  bytes->resize(info.bytes);
  switch (static_cast<ElementType>(info.type)) {
    case ElementType::kFloat32: {
      std::uniform_real_distribution<float> unit(0.0F, 1.0F);
      float* values = reinterpret_cast<float*>(bytes->data());
      std::generate(values, values + bytes->size() / sizeof(float), [&] { return unit(*random); });
      return;
    }
    case ElementType::kInt8:
    case ElementType::kUint8:
    case ElementType::kInt16:
    case ElementType::kUint16:
      std::generate(bytes->begin(), bytes->end(), [&] { return static_cast<uint8_t>((*random)() & 0xFF); });
      return;
    default:  // indices and flags: zero is the one value that is in range everywhere
      std::fill(bytes->begin(), bytes->end(), uint8_t{0});
  }
}

Status Measure(const Flags& flags, Runtime* runtime, Measured* measured) {
  std::mt19937_64 random(static_cast<uint64_t>(flags.seed));
  for (size_t i = 0; i < runtime->inputs().size(); ++i) {
    std::vector<uint8_t> bytes;
    FillRandom(runtime->inputs()[i], &random, &bytes);
    TFQ_RETURN_IF_ERROR(runtime->Write(i, bytes.data()));
  }
  for (int64_t i = 0; i < flags.warmup_runs; ++i) TFQ_RETURN_IF_ERROR(TimedInvoke(runtime, &measured->warmup_ns));
  if (flags.enable_op_profiling) TFQ_RETURN_IF_ERROR(runtime->StartProfile());
  const Clock::time_point start = Clock::now();
  while (true) {
    TFQ_RETURN_IF_ERROR(TimedInvoke(runtime, &measured->runs_ns));
    const double seconds = static_cast<double>(NanosSince(start)) * 1e-9;
    const bool enough = static_cast<int64_t>(measured->runs_ns.size()) >= flags.num_runs && seconds >= flags.min_secs;
    if (enough || seconds >= flags.max_secs) break;
    if (flags.run_delay > 0) usleep(static_cast<useconds_t>(std::lround(flags.run_delay * 1e6)));
  }
  if (flags.enable_op_profiling) TFQ_RETURN_IF_ERROR(runtime->StopProfile(&measured->ops));
  return Status::Ok();
}

std::string Describe(const TensorInfo& info) {
  std::string text = "'" + info.name + "' (" + ElementTypeName(info.type) + " [";
  for (size_t d = 0; d < info.shape.size(); ++d) text += (d == 0 ? "" : ",") + std::to_string(info.shape[d]);
  return text + "], " + std::to_string(info.bytes) + " bytes a run)";
}

Status Compute(const Flags& flags, Runtime* runtime, Measured* measured) {
  const std::vector<TensorInfo>& inputs = runtime->inputs();
  const std::vector<TensorInfo>& outputs = runtime->outputs();
  if (flags.input.size() != inputs.size()) {
    return Status::BadInput("--input names " + std::to_string(flags.input.size()) + " files, the model has " +
                            std::to_string(inputs.size()) + " inputs");
  }
  std::vector<std::vector<uint8_t>> in(inputs.size());
  size_t runs = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (i < flags.input_type.size() && flags.input_type[i] != ElementTypeName(inputs[i].type)) {
      return Status::BadInput("input " + std::to_string(i) + " is " + flags.input_type[i] + ", the model wants " +
                              Describe(inputs[i]));
    }
    TFQ_RETURN_IF_ERROR(ReadFile(flags.input[i], &in[i]));
    if (in[i].empty() || inputs[i].bytes == 0 || in[i].size() % inputs[i].bytes != 0) {
      return Status::BadInput("input " + std::to_string(i) + " has " + std::to_string(in[i].size()) +
                              " bytes, not a multiple of what " + Describe(inputs[i]) + " takes");
    }
    if (i > 0 && in[i].size() / inputs[i].bytes != runs) {
      return Status::BadInput("input " + std::to_string(i) + " has " + std::to_string(in[i].size() / inputs[i].bytes) +
                              " samples, input 0 has " + std::to_string(runs));
    }
    runs = in[i].size() / inputs[i].bytes;
  }
  std::vector<std::vector<uint8_t>> out(outputs.size());
  for (size_t o = 0; o < outputs.size(); ++o) out[o].resize(runs * outputs[o].bytes);
  for (size_t r = 0; r < runs; ++r) {
    for (size_t i = 0; i < inputs.size(); ++i)
      TFQ_RETURN_IF_ERROR(runtime->Write(i, in[i].data() + r * inputs[i].bytes));
    TFQ_RETURN_IF_ERROR(TimedInvoke(runtime, &measured->runs_ns));
    for (size_t o = 0; o < outputs.size(); ++o)
      TFQ_RETURN_IF_ERROR(runtime->Read(o, out[o].data() + r * outputs[o].bytes));
  }
  for (size_t o = 0; o < outputs.size(); ++o)
    TFQ_RETURN_IF_ERROR(WriteFile(flags.output_prefix + std::to_string(o), out[o].data(), out[o].size()));
  measured->samples = static_cast<int64_t>(runs);
  return Status::Ok();
}

void WriteTensors(const std::vector<TensorInfo>& tensors, JsonWriter* json) {
  json->BeginArray();
  for (const TensorInfo& info : tensors) {
    json->BeginObject().Key("name").String(info.name).Key("type").String(ElementTypeName(info.type));
    json->Key("shape").BeginArray();
    for (const int32_t dimension : info.shape) json->Int(dimension);
    json->EndArray().Key("bytes").Int(static_cast<int64_t>(info.bytes)).EndObject();
  }
  json->EndArray();
}

void WriteTimes(const std::vector<int64_t>& times, JsonWriter* json) {
  json->BeginArray();
  for (const int64_t time : times) json->Int(time);
  json->EndArray();
}

std::string ToJson(const Flags& flags, const Runtime& runtime, const Measured& measured, const std::string& report) {
  JsonWriter json;
  json.BeginObject();
  json.Key("runtime").BeginObject().Key("name").String(runtime.name()).Key("version");
  json.String(runtime.version().empty() ? flags.runtime_version : runtime.version()).EndObject();
  json.Key("threads").Int(flags.num_threads);
  json.Key("seed").Int(flags.seed);
  json.Key("samples").Int(measured.samples);
  json.Key("init_ns").Int(measured.init_ns);
  json.Key("warmup_ns");
  WriteTimes(measured.warmup_ns, &json);
  json.Key("runs_ns");
  WriteTimes(measured.runs_ns, &json);
  json.Key("memory").BeginObject().Key("peak_kb").Int(measured.after_runs.peak_kb);
  json.Key("init_footprint_kb").Int(measured.after_init.resident_kb - measured.before.resident_kb);
  json.Key("overall_footprint_kb").Int(measured.after_runs.peak_kb - measured.before.resident_kb).EndObject();
  json.Key("nodes");
  runtime.nodes() < 0 ? json.Null() : json.Int(runtime.nodes());
  json.Key("delegate");
  report.empty() ? json.Null() : json.Raw(report);
  json.Key("inputs");
  WriteTensors(runtime.inputs(), &json);
  json.Key("outputs");
  WriteTensors(runtime.outputs(), &json);
  json.Key("ops").BeginArray();
  for (const OpTime& op : measured.ops) {
    json.BeginObject().Key("name").String(op.name).Key("node").Int(op.node);
    json.Key("inside_delegate").Bool(op.inside_delegate);
    json.Key("calls").Int(op.calls).Key("total_ns").Int(op.total_ns).EndObject();
  }
  json.EndArray().EndObject();
  return json.text() + "\n";
}

Status Run(int argc, char** argv) {
  Flags flags;
  TFQ_RETURN_IF_ERROR(ParseFlags(argc, argv, &flags));
  Measured measured;
  measured.before = ReadMemory();
  const Clock::time_point start = Clock::now();

  // The plugin outlives the runtime: kernels of its delegate run until the runtime is gone.
  DelegatePlugin plugin;
  if (!flags.external_delegate_path.empty()) {
    TFQ_RETURN_IF_ERROR(plugin.Open(flags.external_delegate_path, flags.external_delegate_options));
  }
  const std::unique_ptr<Runtime> runtime = flags.runtime == "litert" ? MakeLiteRtRuntime() : MakeTfLiteRuntime();
  RuntimeConfig config;
  config.library = flags.runtime_library;
  config.graph = flags.graph;
  config.threads = static_cast<int>(flags.num_threads);
  config.use_xnnpack = flags.use_xnnpack;
  config.profile = flags.enable_op_profiling;
  config.delegate = plugin.delegate();
  TFQ_RETURN_IF_ERROR(runtime->Open(config));
  measured.init_ns = NanosSince(start);
  measured.after_init = ReadMemory();

  TFQ_RETURN_IF_ERROR(flags.input.empty() ? Measure(flags, runtime.get(), &measured)
                                          : Compute(flags, runtime.get(), &measured));
  measured.after_runs = ReadMemory();

  std::vector<uint8_t> report;
  if (!flags.delegate_report.empty()) TFQ_RETURN_IF_ERROR(ReadFile(flags.delegate_report, &report));
  const std::string json = ToJson(flags, *runtime, measured, std::string(report.begin(), report.end()));
  if (!flags.output_json.empty()) return WriteFile(flags.output_json, json.data(), json.size());
  std::fputs(json.c_str(), stdout);
  return std::fflush(stdout) == 0 ? Status::Ok() : Status::Error("cannot write to standard output");
}

}  // namespace
}  // namespace tfq::runner

int main(int argc, char** argv) {
  const tfq::runner::Status status = tfq::runner::Run(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "tfq_runner: %s\n", status.line().c_str());
  return status.exit_code();
}
