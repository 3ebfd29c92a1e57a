#include "delegates/int4/packing/cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "delegates/int4/files.h"

namespace tfq::int4 {
namespace {

// One more with every change of a packed layout or of this file: older files are then packed again.
constexpr uint64_t kVersion = 5;

constexpr char kMagic[8] = {'T', 'F', 'Q', 'P', 'A', 'C', 'K', '\n'};

// Of 64 bytes, so that what follows it in a mapped file is aligned for the kernels.
struct Header {
  char magic[8];
  uint64_t version;
  CacheKey key;
  uint64_t size;
  CacheKey checksum;  // of the packed bytes
  uint64_t reserved;
};
static_assert(sizeof(Header) == 64);

Header HeaderOf(const CacheKey& key, const uint8_t* packed, size_t size) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.key = key;
  header.size = size;
  header.checksum = CacheKey();
  header.checksum.Add(packed, size);
  return header;
}

std::string PathOf(const std::string& folder, const CacheKey& key) {
  char name[48];
  std::snprintf(name, sizeof(name), "/%016llx%016llx.tfqpack", static_cast<unsigned long long>(key.high),
                static_cast<unsigned long long>(key.low));
  return folder + name;
}

// Multiply and fold: every bit of the product's both halves takes part.
uint64_t Mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace

// Four chains side by side, for one alone would wait for its own products.
void CacheKey::Add(const void* bytes, size_t count) {
  constexpr size_t kLanes = 4;
  constexpr uint64_t kFactors[kLanes] = {0xa0761d6478bd642f, 0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3,
                                         0x589965cc75374cc3};
  uint64_t lanes[kLanes] = {low ^ count, high, low + kFactors[2], high + kFactors[3]};
  const uint8_t* from = static_cast<const uint8_t*>(bytes);
  for (size_t left = count; left > 0;) {
    uint64_t words[kLanes] = {};
    const size_t taken = left < sizeof(words) ? left : sizeof(words);
    std::memcpy(words, from, taken);
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = Mix(lanes[i] ^ words[i], kFactors[i]);
    from += taken;
    left -= taken;
  }
  low = Mix(lanes[0] + lanes[1], lanes[2] ^ kFactors[0]) ^ lanes[3];
  high = Mix(lanes[2] + lanes[3], lanes[0] ^ kFactors[1]) + low;
}

PackedMemory MapCached(const std::string& folder, const CacheKey& key, size_t size) {
  const int file = open(PathOf(folder, key).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const size_t bytes = sizeof(Header) + size;
  struct stat status;
  void* mapped = MAP_FAILED;
  if (fstat(file, &status) == 0 && static_cast<size_t>(status.st_size) == bytes) {
    mapped = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, 0);
  }
  close(file);
  if (mapped == MAP_FAILED) return {};
  const uint8_t* start = static_cast<const uint8_t*>(mapped);
  const std::shared_ptr<const uint8_t> pages(start, [mapped, bytes](const uint8_t*) { munmap(mapped, bytes); });
  const Header expected = HeaderOf(key, start + sizeof(Header), size);
  if (std::memcmp(start, &expected, sizeof(Header)) != 0) return {};
  return {std::shared_ptr<const uint8_t>(pages, start + sizeof(Header)), size};
}

std::string StoreCached(const std::string& folder, const CacheKey& key, const PackedMemory& packed) {
  const Header header = HeaderOf(key, packed.data(), packed.size);
  std::string text(reinterpret_cast<const char*>(&header), sizeof(header));
  text.append(reinterpret_cast<const char*>(packed.data()), packed.size);
  return WriteFile(PathOf(folder, key), text);
}

}  // namespace tfq::int4
