// Delegates, graphs and threads in every combination that programs make of them; ThreadSanitizer looks on in
// `make native-test`.
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "delegates/int4/delegate.h"
#include "delegates/int4/test/layers.h"

extern "C" {
tfq::abi::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                                  void (*report_error)(const char*));
void tflite_plugin_destroy_delegate(tfq::abi::Delegate* delegate);
}

namespace tfq::int4 {
namespace {

constexpr int32_t kCallers = 3;

// A network of every kind of layer, each with enough work to be shared among threads.
class Network {
 public:
  explicit Network(uint32_t seed) {
    LayerMaker maker(seed);
    output_ = maker.AddInput(&graph_, {1, 20, 21, 16});
    for (const OpKind kind : {OpKind::kConv, OpKind::kDepthwise, OpKind::kDense}) {
      Layer layer;
      layer.kind = kind;
      layer.out_channels = kind == OpKind::kDepthwise ? output_.dims.back() : 32;
      layer.kernel_height = kind == OpKind::kDepthwise ? 7 : 3;
      layer.keep_num_dims = true;
      output_ = maker.AddLayer(&graph_, layer, output_);
    }
  }

  void Apply(abi::Delegate* delegate) {
    EXPECT_EQ(delegate->Prepare(graph_.context(), delegate), abi::Status::kOk);
    EXPECT_EQ(graph_.Prepare(), abi::Status::kOk);
  }

  void Run() {
    EXPECT_EQ(graph_.Invoke(), abi::Status::kOk);
    EXPECT_EQ(graph_.Values(output_.tensor), output_.values);
  }

 private:
  FakeGraph graph_;
  Image output_;
};

Options TwoThreads() {
  Options options;
  options.cpu = BestCpuTier();
  options.threads = 2;
  options.match = Match::kLiteRt;
  return options;
}

// Runs `body` on several threads at once, each with its number, and keeps what the delegates say out of the output.
void Together(const std::function<void(uint32_t)>& body) {
  testing::internal::CaptureStderr();
  std::vector<std::thread> callers;
  for (uint32_t caller = 0; caller < kCallers; ++caller) callers.emplace_back(body, caller);
  for (std::thread& caller : callers) caller.join();
  testing::internal::GetCapturedStderr();
}

TEST(Concurrency, ADelegateOnEachThread) {
  Together([](uint32_t caller) {
    Network network(caller);
    Int4Delegate delegate(TwoThreads());
    network.Apply(delegate.get());
    for (int32_t round = 0; round < 3; ++round) network.Run();
  });
}

TEST(Concurrency, OneDelegateOnManyGraphs) {
  Options options = TwoThreads();
  options.report = testing::TempDir() + "tfq_concurrency_test.json";
  Int4Delegate delegate(options);
  Together([&](uint32_t caller) {
    Network network(caller);
    network.Apply(delegate.get());
    for (int32_t round = 0; round < 3; ++round) network.Run();
  });
  std::remove(options.report.c_str());
}

TEST(Concurrency, AGraphThatChangesThreads) {
  Int4Delegate delegate(TwoThreads());
  Network network(7);
  testing::internal::CaptureStderr();
  network.Apply(delegate.get());
  testing::internal::GetCapturedStderr();
  for (int32_t round = 0; round < 3; ++round) {
    network.Run();
    std::thread([&] { network.Run(); }).join();
  }
}

TEST(Concurrency, DelegatesComeAndGoWhileOthersRun) {
  Together([](uint32_t caller) {
    constexpr const char* kKeys[] = {"threads", "cpu", "match"};
    constexpr const char* kValues[] = {"3", "auto", "litert"};
    for (uint32_t round = 0; round < 4; ++round) {
      abi::Delegate* delegate = tflite_plugin_create_delegate(kKeys, kValues, 3, nullptr);
      {
        Network network(caller + round);
        network.Apply(delegate);
        if (round % 2 == 0) network.Run();
      }
      tflite_plugin_destroy_delegate(delegate);
      // Its threads are gone before they have done anything.
      tflite_plugin_destroy_delegate(tflite_plugin_create_delegate(kKeys, kValues, 3, nullptr));
    }
  });
}

}  // namespace
}  // namespace tfq::int4
