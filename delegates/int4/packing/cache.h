// Packed weights on disk: option `cache`.
//
// One file holds the packed weights of one matrix or filter, under the hash of everything that packing reads. It is
// written beside and renamed, mapped read-only by whoever needs it, and believed only when its own checksum holds.
#ifndef TFQ_DELEGATES_INT4_PACKING_CACHE_H_
#define TFQ_DELEGATES_INT4_PACKING_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace tfq::int4 {

// Packed weights: memory of one's own, or pages of a file that other processes share.
struct PackedMemory {
  std::shared_ptr<const uint8_t> bytes;  // aligned for the kernels
  size_t size = 0;

  const uint8_t* data() const { return bytes.get(); }
};

// A 128-bit hash against chance, not against malice.
struct CacheKey {
  uint64_t low = 0x9e3779b97f4a7c15;
  uint64_t high = 0xc2b2ae3d27d4eb4f;

  void Add(const void* bytes, size_t count);
};

// The file of `key` in `folder`, with `size` packed bytes. Empty when there is none, or one that is damaged or not
// ours.
PackedMemory MapCached(const std::string& folder, const CacheKey& key, size_t size);

// Writes the file. Returns what went wrong, or nothing.
std::string StoreCached(const std::string& folder, const CacheKey& key, const PackedMemory& packed);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PACKING_CACHE_H_
