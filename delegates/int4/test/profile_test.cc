// The profile: its numbers, and what a delegate writes for a graph that ran.
#include "delegates/int4/profile.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "delegates/int4/delegate.h"
#include "delegates/int4/test/layers.h"

namespace tfq::int4 {
namespace {

TEST(Profile, Json) {
  const NodeProfile odd = {3, "CONV_2D", "gemm", {{1, 2, 3, 4}}, {{1, 2, 3, 8}}, {5000, 1000, 2500}};
  const NodeProfile even = {4, "ADD", "add", {{8}, {1}}, {{8}}, {7, 4}};
  const NodeProfile never = {5, "CONV_2D", "gemm", {}, {}, {}};
  EXPECT_EQ(
      ProfileJson({odd, even, never}),
      "{\n  \"nodes\": [\n"
      "    {\"node\": 3, \"op\": \"CONV_2D\", \"kernel\": \"gemm\", \"inputs\": [[1, 2, 3, 4]], "
      "\"outputs\": [[1, 2, 3, 8]], \"calls\": 3, \"total_us\": 8.500, \"min_us\": 1.000, \"median_us\": 2.500, "
      "\"times_us\": [5.000, 1.000, 2.500]},\n"
      "    {\"node\": 4, \"op\": \"ADD\", \"kernel\": \"add\", \"inputs\": [[8], [1]], \"outputs\": [[8]], "
      "\"calls\": 2, \"total_us\": 0.011, \"min_us\": 0.004, \"median_us\": 0.005, \"times_us\": [0.007, 0.004]}\n"
      "  ]\n}\n");
  EXPECT_EQ(ProfileJson({never}), "{\n  \"nodes\": []\n}\n");
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Profile, HoldsEveryCallOfEveryNodeOfAllGraphs) {
  Options options;
  options.profile = testing::TempDir() + "tfq_profile_test.json";
  testing::internal::CaptureStderr();
  auto delegate = std::make_unique<Int4Delegate>(options);
  {
    LayerMaker maker(1);
    FakeGraph once, thrice, never;
    for (FakeGraph* graph : {&once, &thrice, &never}) {
      Image image = maker.AddInput(graph, {1, 6, 5, 4});
      for (int32_t i = 0; i < 2; ++i) image = maker.AddLayer(graph, Layer(), image);
      ASSERT_EQ(delegate->get()->Prepare(graph->context(), delegate->get()), abi::Status::kOk);
      ASSERT_EQ(graph->Prepare(), abi::Status::kOk);
    }
    ASSERT_EQ(once.Invoke(), abi::Status::kOk);
    for (int32_t call = 0; call < 3; ++call) ASSERT_EQ(thrice.Invoke(), abi::Status::kOk);
    delegate.reset();  // some programs destroy it first
  }
  testing::internal::GetCapturedStderr();
  std::stringstream text;
  text << std::ifstream(options.profile).rdbuf();
  EXPECT_EQ(Count(text.str(), "\"calls\": 1,"), 2u) << text.str();
  EXPECT_EQ(Count(text.str(), "\"calls\": 3,"), 2u) << text.str();
  EXPECT_EQ(Count(text.str(), "\"inputs\": [[1, 6, 5, 4]], \"outputs\": [[1, 6, 5, 8]]"), 2u) << text.str();
  EXPECT_EQ(Count(text.str(), "\"inputs\": [[1, 6, 5, 8]], \"outputs\": [[1, 6, 5, 8]]"), 2u) << text.str();
  EXPECT_EQ(Count(text.str(), "\"node\": 0, \"op\": \"CONV_2D\", \"kernel\": \"gemm_"), 2u) << text.str();
  std::remove(options.profile.c_str());
}

}  // namespace
}  // namespace tfq::int4
