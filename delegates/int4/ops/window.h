// A sliding window over an NHWC image: which input row each tap of each output pixel reads.
#ifndef TFQ_DELEGATES_INT4_OPS_WINDOW_H_
#define TFQ_DELEGATES_INT4_OPS_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// One axis of the window. Output positions inner_begin..inner_end-1 read no padding.
struct WindowAxis {
  int32_t in;
  int32_t kernel;
  int32_t stride;
  int32_t dilation;
  int32_t out = 0;
  int32_t pad = 0;
  int32_t inner_begin = 0;
  int32_t inner_end = 0;

  // Sets the outputs as TensorFlow defines SAME and VALID, with `before` and `after` positions of padding beside that;
  // false when no window fits.
  bool Plan(abi::Padding padding, int32_t before, int32_t after);

  int32_t first(int32_t position) const { return position * stride - pad; }
  bool inner(int32_t position) const { return position >= inner_begin && position < inner_end; }
};

class Window {
 public:
  // `kernel_height` x `kernel_width` taps over an input of dims [batch, height, width, channels].
  // Returns what is wrong, or nothing.
  std::string Plan(const WindowParams& params, const Dims& input, int32_t kernel_height, int32_t kernel_width);

  int32_t taps() const { return vertical_.kernel * horizontal_.kernel; }
  int32_t out_height() const { return vertical_.out; }
  int32_t out_width() const { return horizontal_.out; }
  int64_t pixels() const { return int64_t{batch_} * vertical_.out * horizontal_.out; }

  // Each output pixel reads one input pixel, the one at its own place.
  bool is_identity() const;

  // Output pixel `index` of the batch, counted row by row.
  struct Pixel {
    int64_t image;
    int32_t y;
    int32_t x;
  };
  Pixel At(int64_t index) const {
    const int64_t row = index / horizontal_.out;
    return {row / vertical_.out, static_cast<int32_t>(row % vertical_.out),
            static_cast<int32_t>(index % horizontal_.out)};
  }
  void Advance(Pixel* pixel) const {
    if (++pixel->x < horizontal_.out) return;
    pixel->x = 0;
    if (++pixel->y < vertical_.out) return;
    pixel->y = 0;
    ++pixel->image;
  }

  // Where output pixel `first` and those behind it stand.
  PixelRow RowOf(int64_t first) const;

  // Writes the input row of each tap t of output pixels first + i, i = 0..count-1, to rows[i * pixel_step +
  // t * tap_step]: `padding` stands in for taps outside the image. T is int8_t or int16_t, here and below.
  template <typename T>
  void TapRows(const T* input, int64_t first, int32_t count, const T* padding, ptrdiff_t pixel_step, ptrdiff_t tap_step,
               const T** rows) const;

  // Writes the input rows of the taps that lie inside the image one after the other, and returns how many there are.
  int32_t RowsInside(const int8_t* input, const Pixel& pixel, const int8_t** rows) const;

  // Copies the taps of `count` output pixels one after the other, `channels` values each; the patches begin `stride`
  // values apart.
  template <typename T>
  void GatherPatches(const T* input, int64_t first, int32_t count, const T* padding, int32_t channels, ptrdiff_t stride,
                     T* patches) const;

 private:
  // Calls whole(pixel, i, run) for runs of output pixels in a row none of which reads padding, and edge(pixel, i) for
  // each of the others: pixel is number first + i, i = 0..count-1.
  template <typename Whole, typename Edge>
  inline void ForEachRun(int64_t first, int32_t count, const Whole& whole, const Edge& edge) const;

  // Calls tap(t, inside, offset) for each tap of a pixel: whether it lies inside the image, and where its row begins.
  template <typename Tap>
  inline void ForEachTap(const Pixel& pixel, const Tap& tap) const;

  ptrdiff_t Origin(const Pixel& pixel) const {
    return ((pixel.image * vertical_.in + vertical_.first(pixel.y)) * horizontal_.in + horizontal_.first(pixel.x)) *
           channels_;
  }

  ptrdiff_t PixelStep() const { return ptrdiff_t{horizontal_.stride} * channels_; }

  WindowAxis vertical_ = {};
  WindowAxis horizontal_ = {};
  int32_t batch_ = 0;
  ptrdiff_t channels_ = 0;
  std::vector<ptrdiff_t> tap_offsets_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_WINDOW_H_
