#include "android_bench/runner/files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace tfq::runner {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Status Failed(const std::string& doing, const std::string& path) {
  return Status::Error("cannot " + doing + " " + path + ": " + std::strerror(errno));
}

}  // namespace

Status ReadFile(const std::string& path, std::vector<uint8_t>* bytes) {
  std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return Failed("read", path);
  bytes->clear();
  uint8_t block[1 << 16];
  while (const size_t got = std::fread(block, 1, sizeof(block), file.get()))
    bytes->insert(bytes->end(), block, block + got);
  return std::ferror(file.get()) != 0 ? Failed("read", path) : Status::Ok();
}

Status WriteFile(const std::string& path, const void* data, size_t size) {
  const std::string part = path + ".part";
  std::unique_ptr<std::FILE, Close> file(std::fopen(part.c_str(), "wb"));
  if (file == nullptr) return Failed("write", part);
  const bool written = std::fwrite(data, 1, size, file.get()) == size && std::fflush(file.get()) == 0;
  if (!written) {
    const Status status = Failed("write", part);
    std::remove(part.c_str());
    return status;
  }
  file.reset();
  return std::rename(part.c_str(), path.c_str()) == 0 ? Status::Ok() : Failed("rename", part);
}

}  // namespace tfq::runner
