#include "delegates/int4/files.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace tfq::int4 {

std::string WriteFile(const std::string& path, const std::string& text) {
  static std::atomic<uint32_t> written_before{0};  // two threads may write the same file
  const std::string beside =
      path + "." + std::to_string(getpid()) + "." + std::to_string(written_before.fetch_add(1)) + ".part";
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  if (file == nullptr) return "cannot write " + beside + ": " + std::strerror(errno);
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  if (written && closed && std::rename(beside.c_str(), path.c_str()) == 0) return "";
  const std::string problem = "cannot write " + path + ": " + std::strerror(errno);
  std::remove(beside.c_str());
  return problem;
}

}  // namespace tfq::int4
