// What a PAD adds around an image.
#ifndef TFQ_DELEGATES_INT4_OPS_PAD_H_
#define TFQ_DELEGATES_INT4_OPS_PAD_H_

#include <cstdint>

#include "delegates/int4/support.h"

namespace tfq::int4 {

struct ImagePadding {
  int32_t top;
  int32_t bottom;
  int32_t left;
  int32_t right;
};

// Of a PAD node that CheckPad takes: int32 [4][2], before and after each axis of an NHWC image.
ImagePadding PaddingOf(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_PAD_H_
