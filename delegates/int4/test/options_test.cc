// Options: what is accepted, and that a bad one is answered with its key, its value and what is allowed.
#include "delegates/int4/options.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "delegates/int4/abi/tflite.h"

extern "C" {
tfq::abi::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                                  void (*report_error)(const char*));
void tflite_plugin_destroy_delegate(tfq::abi::Delegate* delegate);
}

namespace tfq::int4 {
namespace {

using Pairs = std::vector<std::pair<const char*, const char*>>;

bool Parse(const Pairs& pairs, Options* options, std::string* error) {
  std::vector<const char*> keys, values;
  for (const auto& [key, value] : pairs) {
    keys.push_back(key);
    values.push_back(value);
  }
  return ParseOptions(keys.data(), values.data(), pairs.size(), options, error);
}

TEST(Options, Defaults) {
  Options options;
  std::string error;
  ASSERT_TRUE(Parse({}, &options, &error));
  EXPECT_EQ(options.threads, 1);
  EXPECT_FALSE(options.verbose);
  EXPECT_EQ(options.report, "");
  EXPECT_EQ(options.profile, "");
  EXPECT_EQ(options.cache, "");
  EXPECT_EQ(options.match, Match::kXnnpack);
  EXPECT_GE(options.cpu, BestCpuTier());
}

TEST(Options, AllKeys) {
  Options options;
  std::string error;
  ASSERT_TRUE(Parse({{"threads", "3"},
                     {"cpu", "reference"},
                     {"verbose", "true"},
                     {"report", "out/report.json"},
                     {"profile", "out/profile.json"},
                     {"match", "tflite_2.14"}},
                    &options, &error));
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.cpu, CpuTier::kReference);
  EXPECT_TRUE(options.verbose);
  EXPECT_EQ(options.report, "out/report.json");
  EXPECT_EQ(options.profile, "out/profile.json");
  EXPECT_EQ(options.match, Match::kTfLite214);
}

TEST(Options, ZeroAndMinusOneThreadsMeanEveryProcessor) {
  for (const char* all : {"0", "-1"}) {
    Options options;
    std::string error;
    ASSERT_TRUE(Parse({{"threads", all}}, &options, &error));
    EXPECT_GE(options.threads, 1);
  }
}

TEST(Options, BadOnesNameKeyValueAndWhatIsAllowed) {
  struct Case {
    Pairs pairs;
    std::vector<const char*> mentions;
  };
#if defined(__aarch64__)
  const char* const foreign = "avx2";
#else
  const char* const foreign = "neon_dotprod";
#endif
  const Case cases[] = {
      {{{"thread", "2"}}, {"'thread'", "'2'", "threads, cpu, verbose, report, profile, cache, match"}},
      {{{"", "2"}}, {"''"}},
      {{{"threads", "two"}}, {"'threads'", "'two'", "1 to 256"}},
      {{{"threads", "2x"}}, {"'2x'"}},
      {{{"threads", ""}}, {"''"}},
      {{{"threads", "-2"}}, {"'-2'"}},
      {{{"threads", "257"}}, {"'257'"}},
      {{{"threads", "99999999999999999999"}}, {"'99999999999999999999'"}},
      {{{"cpu", "sse9"}}, {"'cpu'", "'sse9'", "auto, reference"}},
      {{{"cpu", foreign}}, {"'cpu'", foreign, "on this processor"}},
      {{{"verbose", "yes"}}, {"'verbose'", "'yes'", "true, false, 1, 0"}},
      {{{"report", ""}}, {"'report'", "path"}},
      {{{"profile", ""}}, {"'profile'", "path"}},
      {{{"cache", ""}}, {"'cache'", "folder"}},
      {{{"cache", "/nonexistent/folder"}}, {"'cache'", "'/nonexistent/folder'", "folder"}},
      {{{"match", "tflite"}}, {"'match'", "'tflite'", "litert, tflite_2.14, xnnpack"}},
      {{{"threads", "1"}, {"threads", "2"}}, {"'threads'", "twice", "'2'"}},
  };
  for (const Case& bad : cases) {
    Options options;
    std::string error;
    EXPECT_FALSE(Parse(bad.pairs, &options, &error));
    for (const char* mention : bad.mentions) EXPECT_NE(error.find(mention), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

std::string& Reported() {
  static std::string text;
  return text;
}

TEST(Plugin, MakesADelegateThatAllowsDynamicTensors) {
  const char* const keys[] = {"threads"};
  const char* const values[] = {"2"};
  abi::Delegate* delegate = tflite_plugin_create_delegate(keys, values, 1, nullptr);
  ASSERT_NE(delegate, nullptr);
  EXPECT_NE(delegate->Prepare, nullptr);
  EXPECT_EQ(delegate->flags, 1);
  tflite_plugin_destroy_delegate(delegate);
  tflite_plugin_destroy_delegate(nullptr);
}

TEST(Plugin, ReportsABadOption) {
  Reported().clear();
  const char* const keys[] = {"cpu"};
  const char* const values[] = {"fast"};
  EXPECT_EQ(tflite_plugin_create_delegate(keys, values, 1, [](const char* line) { Reported() += line; }), nullptr);
  EXPECT_EQ(Reported().find("tfq int4: option 'cpu' is 'fast'; allowed: auto"), 0u) << Reported();
  testing::internal::CaptureStderr();
  EXPECT_EQ(tflite_plugin_create_delegate(keys, values, 1, nullptr), nullptr);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("'fast'"), std::string::npos);
}

}  // namespace
}  // namespace tfq::int4
