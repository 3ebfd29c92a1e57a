// Files appear whole or not at all.
#include "delegates/int4/files.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

namespace tfq::int4 {
namespace {

TEST(Files, AreWrittenWholeOrNotAtAll) {
  const std::string path = testing::TempDir() + "tfq_files_test.json";
  EXPECT_EQ(WriteFile(path, "first"), "");
  EXPECT_EQ(WriteFile(path, "second"), "");
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(), "second");
  std::remove(path.c_str());
  EXPECT_NE(WriteFile("/nonexistent/folder/report.json", "x").find("/nonexistent/folder/report.json"),
            std::string::npos);
}

}  // namespace
}  // namespace tfq::int4
