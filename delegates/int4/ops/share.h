// Shares the values of a tensor among threads.
#ifndef TFQ_DELEGATES_INT4_OPS_SHARE_H_
#define TFQ_DELEGATES_INT4_OPS_SHARE_H_

#include <algorithm>
#include <cstdint>

#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/thread_pool.h"

namespace tfq::int4 {

// Calls task(begin, end, thread) for pieces of 0..count-1 that begin at multiples of `block`; `operations` is the work
// of all of them.
template <typename Task>
void ShareRange(ThreadPool* pool, int64_t count, int64_t block, int64_t operations, const Task& task) {
  const int64_t blocks = (count + block - 1) / block;
  const int32_t parts = SplitGemm(blocks, 1, operations, pool->threads()).row_parts;
  pool->Run(parts, [&](int32_t part, int32_t thread) {
    const int64_t begin = PartBegin(blocks, part, parts) * block;
    const int64_t end = std::min(count, PartBegin(blocks, part + 1, parts) * block);
    if (begin < end) task(begin, end, thread);
  });
}

inline int64_t ElementsOf(const int32_t* begin, const int32_t* end) {
  int64_t elements = 1;
  for (const int32_t* size = begin; size != end; ++size) elements *= *size;
  return elements;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_SHARE_H_
