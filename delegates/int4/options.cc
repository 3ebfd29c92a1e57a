#include "delegates/int4/options.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace tfq::int4 {
namespace {

constexpr long kMaxThreads = 256;

bool SetThreads(const char* value, Options* options) {
  char* end = nullptr;
  errno = 0;
  const long threads = std::strtol(value, &end, 10);
  if (end == value || *end != '\0' || errno != 0 || threads < -1 || threads > kMaxThreads) return false;
  options->threads = threads > 0 ? static_cast<int32_t>(threads) : std::min<int32_t>(kMaxThreads, AvailableCpus());
  return true;
}

// Tiers that a user of this architecture can ask for; one of another architecture is an error.
constexpr CpuTier kTiers[] = {
    CpuTier::kReference,
#if defined(__x86_64__)
    CpuTier::kAvx2,
    CpuTier::kAvx512Vnni,
    CpuTier::kAvx512Amx,
#elif defined(__aarch64__)
    CpuTier::kNeon,
    CpuTier::kNeonDotprod,
#endif
};

bool SetCpu(const char* value, Options* options) {
  CpuTier tier;
  if (!ParseCpuTier(value, &tier)) return false;
  if (std::strcmp(value, "auto") != 0 && std::find(std::begin(kTiers), std::end(kTiers), tier) == std::end(kTiers)) {
    return false;
  }
  options->cpu = tier;
  return true;
}

std::string AllowedTiers() {
  std::string allowed = "auto";
  for (const CpuTier tier : kTiers) allowed += std::string(", ") + CpuTierName(tier);
  return allowed + " on this processor";
}

bool SetVerbose(const char* value, Options* options) {
  struct Word {
    const char* text;
    bool verbose;
  };
  constexpr Word kWords[] = {{"true", true}, {"1", true}, {"false", false}, {"0", false}};
  for (const Word& word : kWords) {
    if (std::strcmp(value, word.text) == 0) {
      options->verbose = word.verbose;
      return true;
    }
  }
  return false;
}

template <std::string Options::*path>
bool SetPath(const char* value, Options* options) {
  options->*path = value;
  return *value != '\0';
}

bool SetCache(const char* value, Options* options) {
  mkdir(value, 0777);  // where it is there already, access() says whether it is of use
  options->cache = value;
  return access(value, R_OK | W_OK | X_OK) == 0;
}

std::string AllowedPath() { return "the path of a file to write"; }

bool SetMatch(const char* value, Options* options) {
  struct Word {
    const char* text;
    Match match;
  };
  constexpr Word kWords[] = {
      {"litert", Match::kLiteRt}, {"tflite_2.14", Match::kTfLite214}, {"xnnpack", Match::kXnnpack}};
  for (const Word& word : kWords) {
    if (std::strcmp(value, word.text) == 0) {
      options->match = word.match;
      return true;
    }
  }
  return false;
}

struct Key {
  const char* name;
  bool (*set)(const char* value, Options* options);
  std::string (*allowed)();
};

constexpr Key kKeys[] = {
    {"threads", SetThreads, [] { return std::string("1 to 256, or 0 or -1 for every processor of this process"); }},
    {"cpu", SetCpu, AllowedTiers},
    {"verbose", SetVerbose, [] { return std::string("true, false, 1, 0"); }},
    {"report", SetPath<&Options::report>, AllowedPath},
    {"profile", SetPath<&Options::profile>, AllowedPath},
    {"cache", SetCache, [] { return std::string("a folder to write to, or one that can be made"); }},
    {"match", SetMatch, [] { return std::string("litert, tflite_2.14, xnnpack"); }},
};
constexpr size_t kKeyCount = std::size(kKeys);

size_t FindKey(const char* name) {
  size_t i = 0;
  while (i < kKeyCount && std::strcmp(kKeys[i].name, name) != 0) ++i;
  return i;
}

std::string KeyNames() {
  std::string names;
  for (const Key& key : kKeys) names += (names.empty() ? "" : ", ") + std::string(key.name);
  return names;
}

}  // namespace

bool ParseOptions(const char* const* keys, const char* const* values, size_t count, Options* options,
                  std::string* error) {
  *options = Options();
  ParseCpuTier("auto", &options->cpu);
  bool seen[kKeyCount] = {};
  for (size_t i = 0; i < count; ++i) {
    const char* name = keys[i] == nullptr ? "" : keys[i];
    const char* value = values[i] == nullptr ? "" : values[i];
    const size_t index = FindKey(name);
    if (index == kKeyCount) {
      *error = std::string("unknown option '") + name + "' (value '" + value + "'); known are " + KeyNames();
      return false;
    }
    if (seen[index]) {
      *error = std::string("option '") + name + "' is given twice, the second time as '" + value + "'; give it once";
      return false;
    }
    seen[index] = true;
    if (!kKeys[index].set(value, options)) {
      *error = std::string("option '") + name + "' is '" + value + "'; allowed: " + kKeys[index].allowed();
      return false;
    }
  }
  return true;
}

}  // namespace tfq::int4
