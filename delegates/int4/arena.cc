#include "delegates/int4/arena.h"

#include <algorithm>
#include <numeric>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {
namespace {

size_t Aligned(size_t bytes) { return (bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment; }

}  // namespace

// Largest first, each at the lowest place that is free for as long as it lives.
size_t PlanArena(const std::vector<Lifetime>& lifetimes, std::vector<size_t>* offsets) {
  std::vector<size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  offsets->assign(lifetimes.size(), 0);
  size_t total = 0;
  std::vector<size_t> placed;  // in order of their offsets
  for (const size_t current : order) {
    const Lifetime& life = lifetimes[current];
    size_t offset = 0;
    for (const size_t other : placed) {
      if (lifetimes[other].last < life.first || life.last < lifetimes[other].first) continue;
      if (offset + life.bytes <= (*offsets)[other]) break;
      offset = std::max(offset, Aligned((*offsets)[other] + lifetimes[other].bytes));
    }
    (*offsets)[current] = offset;
    total = std::max(total, offset + life.bytes);
    const auto later = [&](size_t other) { return (*offsets)[other] > offset; };
    placed.insert(std::find_if(placed.begin(), placed.end(), later), current);
  }
  return Aligned(total);
}

}  // namespace tfq::int4
