// How the vector depthwise kernels cut channels into blocks.
//
// The last block ends at the last channel and may overlap the one before it: no row is read past its end, and the
// channels that both blocks hold are computed twice, to the same values. Fewer channels than the narrowest width make
// one block, part empty.
#ifndef TFQ_DELEGATES_INT4_PACKING_CHANNEL_BLOCKS_H_
#define TFQ_DELEGATES_INT4_PACKING_CHANNEL_BLOCKS_H_

#include <cstdint>

namespace tfq::int4 {

constexpr int32_t kNarrowestBlock = 8;

// The widest power of two, 8 up to `widest`, that the channels fill.
static inline int32_t ChannelBlockWidth(int32_t channels, int32_t widest) {
  int32_t width = widest;
  while (width > kNarrowestBlock && width > channels) width /= 2;
  return width;
}

static inline int32_t ChannelBlockCount(int32_t channels, int32_t width) { return (channels + width - 1) / width; }

static inline int32_t ChannelBlockBegin(int32_t channels, int32_t width, int32_t block) {
  const int32_t last = channels > width ? channels - width : 0;
  return block * width < last ? block * width : last;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PACKING_CHANNEL_BLOCKS_H_
