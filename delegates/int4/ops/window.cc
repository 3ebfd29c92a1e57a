#include "delegates/int4/ops/window.h"

#include <algorithm>
#include <cstring>

namespace tfq::int4 {
namespace {

// A patch is made of many short pieces: up to sixteen bytes are two words that may overlap.
void CopyBytes(const void* source, size_t count, void* target) {
  const uint8_t* from = static_cast<const uint8_t*>(source);
  uint8_t* to = static_cast<uint8_t*>(target);
  if (count >= 8 && count <= 16) {
    uint64_t first, last;
    std::memcpy(&first, from, 8);
    std::memcpy(&last, from + count - 8, 8);
    std::memcpy(to, &first, 8);
    std::memcpy(to + count - 8, &last, 8);
  } else if (count < 8) {
    for (size_t i = 0; i < count; ++i) to[i] = from[i];
  } else {
    std::memcpy(to, from, count);
  }
}

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

template <typename T>
void Window::TapRows(const T* input, const Pixel& pixel, const T* padding, ptrdiff_t step, const T** rows) const {
  const ptrdiff_t origin = Origin(pixel);
  if (vertical_.inner(pixel.y) && horizontal_.inner(pixel.x)) {
    const T* base = input + origin;
    const ptrdiff_t* offsets = tap_offsets_.data();
    const int32_t count = taps();
    if (step == 1) {  // apart, for compilers make two additions of one instruction here
      for (int32_t i = 0; i < count; ++i) rows[i] = base + offsets[i];
    } else {
      for (int32_t i = 0; i < count; ++i) rows[i * step] = base + offsets[i];
    }
    return;
  }
  const ptrdiff_t* offset = tap_offsets_.data();
  int32_t y = vertical_.first(pixel.y);
  for (int32_t i = 0; i < vertical_.kernel; ++i, y += vertical_.dilation) {
    int32_t x = horizontal_.first(pixel.x);
    for (int32_t j = 0; j < horizontal_.kernel; ++j, x += horizontal_.dilation) {
      const bool inside = y >= 0 && y < vertical_.in && x >= 0 && x < horizontal_.in;
      *rows = inside ? input + (origin + *offset) : padding;
      rows += step;
      ++offset;
    }
  }
}

int32_t Window::RowsInside(const int8_t* input, const Pixel& pixel, const int8_t** rows) const {
  TapRows<int8_t>(input, pixel, nullptr, 1, rows);
  return static_cast<int32_t>(std::remove(rows, rows + taps(), nullptr) - rows);
}

template <typename T>
void Window::GatherPatch(const T* input, const Pixel& pixel, const T* padding, int32_t channels, T* patch) const {
  const ptrdiff_t origin = Origin(pixel);
  const size_t bytes = sizeof(T) * static_cast<size_t>(channels);
  // Where nothing lies between the taps of a row, they are one piece of memory.
  const bool whole_rows = horizontal_.dilation == 1 && channels == channels_ && horizontal_.inner(pixel.x);
  const ptrdiff_t* offset = tap_offsets_.data();
  int32_t y = vertical_.first(pixel.y);
  for (int32_t i = 0; i < vertical_.kernel; ++i, y += vertical_.dilation) {
    const bool row_inside = y >= 0 && y < vertical_.in;
    if (whole_rows && row_inside) {
      const ptrdiff_t row_values = ptrdiff_t{channels} * horizontal_.kernel;
      CopyBytes(input + (origin + *offset), sizeof(T) * static_cast<size_t>(row_values), patch);
      patch += row_values;
      offset += horizontal_.kernel;
      continue;
    }
    int32_t x = horizontal_.first(pixel.x);
    for (int32_t j = 0; j < horizontal_.kernel; ++j, x += horizontal_.dilation) {
      const bool inside = row_inside && x >= 0 && x < horizontal_.in;
      CopyBytes(inside ? input + (origin + *offset) : padding, bytes, patch);
      patch += channels;
      ++offset;
    }
  }
}

template void Window::TapRows(const int8_t*, const Pixel&, const int8_t*, ptrdiff_t, const int8_t**) const;
template void Window::TapRows(const int16_t*, const Pixel&, const int16_t*, ptrdiff_t, const int16_t**) const;
template void Window::GatherPatch(const int8_t*, const Pixel&, const int8_t*, int32_t, int8_t*) const;
template void Window::GatherPatch(const int16_t*, const Pixel&, const int16_t*, int32_t, int16_t*) const;

}  // namespace tfq::int4
