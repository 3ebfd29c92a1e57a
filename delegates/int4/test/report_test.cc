// What is said about the nodes, in a line and as JSON.
#include "delegates/int4/report.h"

#include <gtest/gtest.h>

namespace tfq::int4 {
namespace {

TEST(Report, EqualReasonsAreCounted) {
  EXPECT_EQ(Summary({{0, 0, "CONV_2D", true, "kernel"},
                     {0, 1, "SOFTMAX", false, "op not supported"},
                     {0, 2, "ADD", false, "op not supported"},
                     {0, 3, "SOFTMAX", false, "op not supported"}}),
            "took 1 of 4 nodes; declined: SOFTMAX (op not supported) x2, ADD (op not supported) x1");
  EXPECT_EQ(Summary({{0, 0, "CONV_2D", true, "kernel"}}), "took 1 of 1 nodes");
  EXPECT_EQ(Summary({}), "took 0 of 0 nodes");
}

TEST(Report, ALongListIsCut) {
  std::vector<NodeReport> nodes;
  for (int32_t i = 0; i < 20; ++i) nodes.push_back({0, i, "OP" + std::to_string(i), false, "why"});
  const std::string line = Summary(nodes);
  EXPECT_NE(line.find("OP7 (why) x1, and 12 more reasons"), std::string::npos) << line;
}

TEST(Report, Json) {
  EXPECT_EQ(ReportJson({{0, 0, "CONV_2D", true, "gemm"}, {1, 4, "ADD", false, "weights 'a\"b\\c\n'"}}, {5, 6, 7}),
            "{\n  \"delegated\": 1,\n  \"total\": 2,\n"
            "  \"packed_bytes\": 5,\n  \"arena_bytes\": 6,\n  \"scratch_bytes\": 7,\n"
            "  \"declined\": [\n    {\"subgraph\": 1, \"node\": 4, \"op\": \"ADD\", "
            "\"reason\": \"weights 'a\\\"b\\\\c\\u000a'\"}\n  ],\n"
            "  \"taken\": [\n    {\"subgraph\": 0, \"node\": 0, \"op\": \"CONV_2D\", \"kernel\": \"gemm\"}\n  ]\n}\n");
}

}  // namespace
}  // namespace tfq::int4
