#include "delegates/int4/test/fenced_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace tfq::int4 {
namespace {

void Require(bool holds, const char* call) {
  if (holds) return;
  std::perror(call);
  std::abort();
}

}  // namespace

FencedMemory::FencedMemory(size_t bytes, size_t slots) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
  slot_bytes_ = (bytes + page_ - 1) / page_ * page_;
  total_ = page_ + slots * (slot_bytes_ + page_);
  void* base = mmap(nullptr, total_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Require(base != MAP_FAILED, "mmap");
  base_ = static_cast<uint8_t*>(base);
  for (size_t slot = 0; slot < slots && slot_bytes_ != 0; ++slot) {
    Require(mprotect(Slot(slot), slot_bytes_, PROT_READ | PROT_WRITE) == 0, "mprotect");
  }
}

FencedMemory::~FencedMemory() { munmap(base_, total_); }

}  // namespace tfq::int4
