#include "delegates/int4/ops/window.h"

#include <algorithm>
#include <cstring>

namespace tfq::int4 {
namespace {

// How patches are put together from pieces of memory, which are short as a rule. Steps are from one patch to the next.
template <typename T>
struct PatchCopy {
  const ptrdiff_t* offsets;  // of the pieces, from where a patch begins
  int32_t offset_step;
  int32_t pieces;
  ptrdiff_t values;  // of a piece
  ptrdiff_t from_step;
  ptrdiff_t to_step;

  void Run(const T* from, T* to, int32_t patches) const {
    const size_t bytes = sizeof(T) * static_cast<size_t>(values);
    if (bytes == 1) return CopyWords<uint8_t>(from, to, patches);
    if (bytes < 4) return CopyWords<uint16_t>(from, to, patches);
    if (bytes < 8) return CopyWords<uint32_t>(from, to, patches);
    if (bytes <= 16) return CopyWords<uint64_t>(from, to, patches);
    ForEachPiece(from, to, patches, [&](const T* piece, T* target) { std::memcpy(target, piece, bytes); });
  }

  // Of pieces of one to two words: two words that may overlap.
  template <typename Word>
  void CopyWords(const T* from, T* to, int32_t patches) const {
    const ptrdiff_t second = values - static_cast<ptrdiff_t>(sizeof(Word) / sizeof(T));
    ForEachPiece(from, to, patches, [&](const T* piece, T* target) {
      Word words[2];
      std::memcpy(&words[0], piece, sizeof(Word));
      std::memcpy(&words[1], piece + second, sizeof(Word));
      std::memcpy(target, &words[0], sizeof(Word));
      std::memcpy(target + second, &words[1], sizeof(Word));
    });
  }

  template <typename Copy>
  void ForEachPiece(const T* from, T* to, int32_t patches, const Copy& copy) const {
    for (int32_t p = 0; p < pieces; ++p, to += values) {
      const T* piece = from + offsets[p * offset_step];
      T* target = to;
#pragma GCC unroll 2
      for (int32_t i = 0; i < patches; ++i, piece += from_step, target += to_step) copy(piece, target);
    }
  }
};

}  // namespace

// No window of use is wider; sums and products of places then stay within their types.
constexpr int64_t kMaxExtent = int64_t{1} << 22;

bool WindowAxis::Plan(abi::Padding padding, int32_t before, int32_t after) {
  const int64_t extent = int64_t{kernel - 1} * dilation + 1;
  if (extent + dilation > kMaxExtent) return false;
  const int64_t last = extent - 1;
  const int64_t padded = int64_t{in} + before + after;
  int64_t in_front = before;
  if (padding == abi::Padding::kSame) {
    out = static_cast<int32_t>((padded + stride - 1) / stride);
    in_front += std::max<int64_t>(0, int64_t{out - 1} * stride + extent - padded) / 2;
  } else {
    if (extent > padded) return false;
    out = static_cast<int32_t>((padded - extent) / stride + 1);
  }
  if (in_front > INT32_MAX / 2 || padded > INT32_MAX / 2) return false;
  pad = static_cast<int32_t>(in_front);
  inner_begin = static_cast<int32_t>(std::min<int64_t>(out, (int64_t{pad} + stride - 1) / stride));
  // The last position whose last tap still lies inside.
  const int64_t room = int64_t{in} - 1 - last + pad;
  inner_end = room < 0 ? inner_begin : static_cast<int32_t>(std::min<int64_t>(out, room / stride + 1));
  inner_end = std::max(inner_begin, inner_end);
  return true;
}

std::string Window::Plan(const WindowParams& params, const Dims& input, int32_t kernel_height, int32_t kernel_width) {
  batch_ = input[0];
  channels_ = input[3];
  vertical_ = {input[1], kernel_height, params.stride_height, params.dilation_height};
  horizontal_ = {input[2], kernel_width, params.stride_width, params.dilation_width};
  const std::string size = std::to_string(input[1]) + "x" + std::to_string(input[2]);
  if (input[1] < 1 || input[2] < 1) return "input of " + size + " pixels";
  if (!vertical_.Plan(params.padding, params.top, params.bottom) ||
      !horizontal_.Plan(params.padding, params.left, params.right)) {
    return "a window of " + std::to_string(kernel_height) + "x" + std::to_string(kernel_width) + " (dilated by " +
           std::to_string(params.dilation_height) + "x" + std::to_string(params.dilation_width) + ") does not fit " +
           size + " pixels";
  }
  tap_offsets_.clear();
  for (int32_t y = 0; y < kernel_height; ++y) {
    for (int32_t x = 0; x < kernel_width; ++x) {
      tap_offsets_.push_back(
          (ptrdiff_t{y} * vertical_.dilation * horizontal_.in + ptrdiff_t{x} * horizontal_.dilation) * channels_);
    }
  }
  return "";
}

bool Window::is_identity() const {
  return taps() == 1 && vertical_.stride == 1 && horizontal_.stride == 1 && vertical_.in == vertical_.out &&
         horizontal_.in == horizontal_.out;
}

template <typename Whole, typename Edge>
inline __attribute__((always_inline)) void Window::ForEachRun(int64_t first, int32_t count, const Whole& whole,
                                                              const Edge& edge) const {
  Pixel pixel = At(first);
  for (int32_t i = 0; i < count;) {
    int32_t run = 1;
    if (vertical_.inner(pixel.y) && horizontal_.inner(pixel.x)) {
      run = std::min(count - i, horizontal_.inner_end - pixel.x);
      whole(pixel, i, run);
    } else {
      edge(pixel, i);
    }
    i += run;
    pixel.x += run - 1;
    Advance(&pixel);
  }
}

template <typename Tap>
inline __attribute__((always_inline)) void Window::ForEachTap(const Pixel& pixel, const Tap& tap) const {
  const ptrdiff_t origin = Origin(pixel);
  const ptrdiff_t* offsets = tap_offsets_.data();
  const auto within = [](int32_t position, int32_t extent) {  // negative ones are large unsigned ones
    return static_cast<uint32_t>(position) < static_cast<uint32_t>(extent);
  };
  int32_t t = 0;
  int32_t y = vertical_.first(pixel.y);
  for (int32_t i = 0; i < vertical_.kernel; ++i, y += vertical_.dilation) {
    const int32_t width = within(y, vertical_.in) ? horizontal_.in : 0;
    int32_t x = horizontal_.first(pixel.x);
    for (int32_t j = 0; j < horizontal_.kernel; ++j, ++t, x += horizontal_.dilation) {
      tap(t, within(x, width), origin + offsets[t]);
    }
  }
}

PixelRow Window::RowOf(int64_t first) const {
  // Pixels see columns of their own where taps of a window stand apart.
  if (horizontal_.dilation != 1) return {};
  return {static_cast<int32_t>(first % horizontal_.out), horizontal_.out, horizontal_.stride};
}

// Pointers one after the other, of a number of taps that is known: they stay in registers.
template <int kTaps, typename T>
static void StepRows(const T* base, const ptrdiff_t* offsets, ptrdiff_t step, int32_t run, const T** rows) {
  const T* next[kTaps];
  for (int t = 0; t < kTaps; ++t) next[t] = base + offsets[t];
  for (; run > 0; --run, rows += kTaps) {
#pragma GCC unroll 25
    for (int t = 0; t < kTaps; ++t) {
      rows[t] = next[t];
      next[t] += step;
    }
  }
}

template <typename T>
void Window::TapRows(const T* input, int64_t first, int32_t count, const T* padding, ptrdiff_t pixel_step,
                     ptrdiff_t tap_step, const T** rows) const {
  const ptrdiff_t step = PixelStep();
  const auto whole = [&](const Pixel& pixel, int32_t i, int32_t run) {
    const T* base = input + Origin(pixel);
    const T** to_tap = rows + i * pixel_step;
    if (tap_step == 1 && pixel_step == taps() && (taps() == 9 || taps() == 25)) {
      const auto step_rows = taps() == 9 ? StepRows<9, T> : StepRows<25, T>;
      return step_rows(base, tap_offsets_.data(), step, run, to_tap);
    }
    for (const ptrdiff_t offset : tap_offsets_) {
      const T* row = base + offset;
      const T** to = to_tap;
#pragma GCC unroll 8
      for (int32_t left = run; left > 0; --left, row += step, to += pixel_step) *to = row;
      to_tap += tap_step;
    }
  };
  const auto edge = [&](const Pixel& pixel, int32_t i) {
    const T** to = rows + i * pixel_step;
    ForEachTap(pixel,
               [&](int32_t t, bool inside, ptrdiff_t offset) { to[t * tap_step] = inside ? input + offset : padding; });
  };
  ForEachRun(first, count, whole, edge);
}

int32_t Window::RowsInside(const int8_t* input, const Pixel& pixel, const int8_t** rows) const {
  int32_t count = 0;
  ForEachTap(pixel, [&](int32_t, bool inside, ptrdiff_t offset) {
    if (inside) rows[count++] = input + offset;
  });
  return count;
}

template <typename T>
void Window::GatherPatches(const T* input, int64_t first, int32_t count, const T* padding, int32_t channels,
                           ptrdiff_t stride, T* patches) const {
  // Where nothing lies between the taps of a row, they are one piece of memory.
  const int32_t piece_taps = horizontal_.dilation == 1 && channels == channels_ ? horizontal_.kernel : 1;
  const PatchCopy<T> copy = {tap_offsets_.data(), piece_taps, taps() / piece_taps, ptrdiff_t{piece_taps} * channels,
                             PixelStep(),         stride};
  const auto whole = [&](const Pixel& pixel, int32_t i, int32_t run) {
    copy.Run(input + Origin(pixel), patches + i * stride, run);
  };
  const auto edge = [&](const Pixel& pixel, int32_t i) {
    T* to = patches + i * stride;
    ForEachTap(pixel, [&](int32_t t, bool inside, ptrdiff_t offset) {
      std::memcpy(to + ptrdiff_t{t} * channels, inside ? input + offset : padding,
                  sizeof(T) * static_cast<size_t>(channels));
    });
  };
  ForEachRun(first, count, whole, edge);
}

template void Window::TapRows(const int8_t*, int64_t, int32_t, const int8_t*, ptrdiff_t, ptrdiff_t,
                              const int8_t**) const;
template void Window::TapRows(const int16_t*, int64_t, int32_t, const int16_t*, ptrdiff_t, ptrdiff_t,
                              const int16_t**) const;
template void Window::GatherPatches(const int8_t*, int64_t, int32_t, const int8_t*, int32_t, ptrdiff_t, int8_t*) const;
template void Window::GatherPatches(const int16_t*, int64_t, int32_t, const int16_t*, int32_t, ptrdiff_t,
                                    int16_t*) const;

}  // namespace tfq::int4
