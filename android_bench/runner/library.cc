#include "android_bench/runner/library.h"

#include <dlfcn.h>

namespace tfq::runner {

Status Library::Open(const std::string& path) {
  path_ = path;
  handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* why = dlerror();
    return Status::Error("cannot open library " + path + ": " + (why != nullptr ? why : "unknown cause"));
  }
  return Status::Ok();
}

void* Library::Find(const char* symbol) const { return handle_ == nullptr ? nullptr : dlsym(handle_, symbol); }

}  // namespace tfq::runner
