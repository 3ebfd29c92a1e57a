// Rows and patches of sliding windows, beside a look at every coordinate.
#include "delegates/int4/ops/window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace tfq::int4 {
namespace {

using testing::ElementsAreArray;

struct Case {
  WindowParams params;
  Dims input;  // [batch, height, width, channels]
  int32_t kernel_height;
  int32_t kernel_width;
};

Case RandomCase(std::mt19937* random) {
  const auto in = [&](int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(*random); };
  Case c;
  c.kernel_height = in(1, 5);
  c.kernel_width = in(1, 5);
  c.params.padding = in(0, 1) == 0 ? abi::Padding::kSame : abi::Padding::kValid;
  c.params.stride_height = in(1, 3);
  c.params.stride_width = in(1, 3);
  c.params.dilation_height = in(1, 2);
  c.params.dilation_width = in(1, 2);
  c.params.top = in(0, 1);
  c.params.left = in(0, 2);
  c.input = {in(1, 2), in(1, 12), in(1, 12), in(1, 20)};
  return c;
}

// First value of the input that tap (y, x) of an output pixel reads, or -1 outside the image. `pad` is what lies before
// the image.
int64_t OffsetOf(const Case& c, const Window::Pixel& pixel, int32_t y, int32_t x, int32_t pad_top, int32_t pad_left) {
  const int64_t row = int64_t{pixel.y} * c.params.stride_height - pad_top + y * c.params.dilation_height;
  const int64_t column = int64_t{pixel.x} * c.params.stride_width - pad_left + x * c.params.dilation_width;
  if (row < 0 || row >= c.input[1] || column < 0 || column >= c.input[2]) return -1;
  return ((pixel.image * c.input[1] + row) * c.input[2] + column) * c.input[3];
}

// Positions before the image, as TensorFlow defines SAME.
int32_t PadBefore(abi::Padding padding, int32_t explicit_pad, int32_t in, int32_t out, int32_t kernel, int32_t stride,
                  int32_t dilation) {
  if (padding == abi::Padding::kValid) return explicit_pad;
  const int32_t missing = (out - 1) * stride + (kernel - 1) * dilation + 1 - (in + explicit_pad);
  return explicit_pad + std::max(0, missing) / 2;
}

template <typename T>
void CheckAgainstCoordinates(uint32_t seed) {
  std::mt19937 random(seed);
  for (int32_t round = 0; round < 400; ++round) {
    const Case c = RandomCase(&random);
    Window window;
    if (!window.Plan(c.params, c.input, c.kernel_height, c.kernel_width).empty()) continue;
    const int32_t channels = c.input[3];
    std::vector<T> input(static_cast<size_t>(c.input[0]) * c.input[1] * c.input[2] * channels);
    std::iota(input.begin(), input.end(), T{1});
    const std::vector<T> padding(channels, T{-7});
    const int32_t pad_top = PadBefore(c.params.padding, c.params.top, c.input[1], window.out_height(), c.kernel_height,
                                      c.params.stride_height, c.params.dilation_height);
    const int32_t pad_left = PadBefore(c.params.padding, c.params.left, c.input[2], window.out_width(), c.kernel_width,
                                       c.params.stride_width, c.params.dilation_width);
    const int32_t first = std::uniform_int_distribution<int32_t>(0, static_cast<int32_t>(window.pixels()) - 1)(random);
    const int32_t count =
        std::uniform_int_distribution<int32_t>(1, static_cast<int32_t>(window.pixels()) - first)(random);

    std::vector<const T*> expected_rows;
    std::vector<T> expected_patches;
    for (int32_t i = 0; i < count; ++i) {
      const Window::Pixel pixel = window.At(first + i);
      for (int32_t y = 0; y < c.kernel_height; ++y) {
        for (int32_t x = 0; x < c.kernel_width; ++x) {
          const int64_t offset = OffsetOf(c, pixel, y, x, pad_top, pad_left);
          const T* row = offset < 0 ? padding.data() : input.data() + offset;
          expected_rows.push_back(row);
          expected_patches.insert(expected_patches.end(), row, row + channels);
        }
      }
      expected_patches.push_back(T{0});  // what lies between patches stays
    }

    const int32_t taps = window.taps();
    std::vector<const T*> rows(expected_rows.size());
    window.TapRows(input.data(), first, count, padding.data(), taps, 1, rows.data());
    EXPECT_THAT(rows, ElementsAreArray(expected_rows));

    // Pixels that stand in one row see the same columns.
    const PixelRow row = window.RowOf(first);
    for (int32_t i = 0; i + 1 < count; ++i) {
      if ((row.x + i) % row.width + 1 == row.width) continue;
      for (int32_t t = 0; t < taps; ++t) {
        if (t % c.kernel_width + row.step >= c.kernel_width) continue;
        EXPECT_EQ(rows[i * taps + t + row.step], rows[(i + 1) * taps + t]);
      }
    }

    std::vector<const T*> by_tap(expected_rows.size());
    window.TapRows(input.data(), first, count, padding.data(), 1, count, by_tap.data());
    for (int32_t i = 0; i < count; ++i) {
      for (int32_t t = 0; t < taps; ++t) EXPECT_EQ(by_tap[t * count + i], expected_rows[i * taps + t]);
    }

    std::vector<T> patches(expected_patches.size());
    window.GatherPatches(input.data(), first, count, padding.data(), channels, taps * channels + 1, patches.data());
    EXPECT_EQ(patches, expected_patches);
  }
}

TEST(Window, RowsAndPatchesAreThoseOfTheCoordinates) {
  CheckAgainstCoordinates<int8_t>(1);
  CheckAgainstCoordinates<int16_t>(2);
}

TEST(Window, LeavesOutTapsOutsideTheImage) {
  Window window;
  WindowParams params;
  params.padding = abi::Padding::kSame;
  ASSERT_EQ(window.Plan(params, {1, 2, 3, 4}, 3, 3), "");
  const int8_t image[24] = {};
  const int8_t* rows[9];
  EXPECT_EQ(window.RowsInside(image, window.At(0), rows), 4);
  EXPECT_THAT(std::vector<const int8_t*>(rows, rows + 4), ElementsAreArray({image, image + 4, image + 12, image + 16}));
}

}  // namespace
}  // namespace tfq::int4
