#include "delegates/int4/ops/weights.h"

#include <cstring>
#include <functional>
#include <numeric>

#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

template <typename T>
void AddValues(const T* values, size_t count, CacheKey* key) {
  key->Add(values, values == nullptr ? 0 : sizeof(T) * count);
}

CacheKey KeyOfShape(const char* kernel, const int32_t (&shape)[4], const WeightValues& values) {
  CacheKey key;
  key.Add(kernel, std::strlen(kernel));
  key.Add(shape, sizeof(shape));
  AddValues(&values.bits, 1, &key);
  AddValues(values.bytes, ValueBytes(static_cast<size_t>(shape[0]) * shape[1] * shape[2], values.bits), &key);
  return key;
}

void AddStatic(const WeightSource& weights, size_t channels, CacheKey* key) {
  AddValues(weights.bias, channels, key);
  AddValues(weights.multiplier, channels, key);
  AddValues(weights.shift, channels, key);
  AddValues(&weights.input_zero_point, 1, key);
}

}  // namespace

CacheKey KeyOf(const char* kernel, const GemmShape& shape, const WeightSource& weights) {
  CacheKey key = KeyOfShape(kernel, {shape.n, shape.taps, shape.channels, shape.block}, weights.values);
  AddStatic(weights, static_cast<size_t>(shape.n), &key);
  return key;
}

CacheKey KeyOf(const char* kernel, const GemmShape& shape, const ScaledWeights& weights) {
  CacheKey key = KeyOfShape(kernel, {shape.n, shape.taps, shape.channels, shape.block}, weights.values);
  const size_t channels = static_cast<size_t>(shape.n);
  const size_t blocks = shape.block == 0 ? 0 : channels * static_cast<size_t>(shape.channels / shape.block);
  AddValues(weights.bias, channels, &key);
  AddValues(weights.scale, channels, &key);
  AddValues(weights.block_scale, blocks, &key);
  return key;
}

CacheKey KeyOf(const char* kernel, const DepthwiseShape& shape, const WeightSource& weights) {
  CacheKey key = KeyOfShape(kernel, {1, shape.taps, shape.channels, shape.width}, weights.values);
  AddStatic(weights, static_cast<size_t>(shape.channels), &key);
  return key;
}

CacheKey KeyOf(const char* kernel, const GemmShape& shape, const WideWeights& weights) {
  CacheKey key = KeyOfShape(kernel, {shape.n, shape.taps, shape.channels, shape.block}, weights.values);
  AddValues(weights.channels, static_cast<size_t>(shape.n), &key);
  return key;
}

CacheKey KeyOf(const char* kernel, const DepthwiseShape& shape, const WideWeights& weights) {
  CacheKey key = KeyOfShape(kernel, {1, shape.taps, shape.channels, shape.width}, weights.values);
  AddValues(weights.channels, static_cast<size_t>(shape.channels), &key);
  return key;
}

namespace {

int64_t ElementsOf(const abi::Tensor& tensor) {
  return std::accumulate(tensor.dims->begin(), tensor.dims->end(), int64_t{1}, std::multiplies<int64_t>());
}

}  // namespace

WeightFormat FormatOf(const NodeView& view) { return {view.weight_bits(), view.has_blocks()}; }

GemmExtent ExtentOf(const NodeView& view) {
  const int32_t channels = view.weights()->dims->end()[-1];
  const int32_t digits = view.arithmetic() == Arithmetic::kWeightOnly ? kDigits : 1;
  return {ElementsOf(*view.input()) / channels * digits, ElementsOf(*view.weights()) / view.out_channels()};
}

WeightValues ValuesOf(const NodeView& view) {
  return {static_cast<const uint8_t*>(view.weights()->data), view.weight_bits()};
}

std::vector<uint8_t> CopyRows(const WeightValues& values, size_t begin, size_t rows, size_t depth,
                              size_t padded_depth) {
  std::vector<uint8_t> copy(ValueBytes(rows * padded_depth, values.bits), 0);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < depth; ++i) {
      const uint32_t value = static_cast<uint32_t>(ValueAt(values, begin + row * depth + i));
      const size_t to = row * padded_depth + i;
      if (values.bits == 8) {
        copy[to] = static_cast<uint8_t>(value);
      } else {
        copy[to / 2] = static_cast<uint8_t>(copy[to / 2] | (value & 0xFu) << (to % 2 * 4));
      }
    }
  }
  return copy;
}

WeightSource StaticWeights(const NodeView& view, const ChannelScales& scales, const WeightValues& values,
                           int32_t first_channel) {
  const int32_t* bias = view.bias() == nullptr ? nullptr : static_cast<const int32_t*>(view.bias()->data);
  return {values, bias == nullptr ? nullptr : bias + first_channel, scales.multiplier.data() + first_channel,
          scales.shift.data() + first_channel, view.input()->params.zero_point};
}

ScaledWeights FloatScaledWeights(const NodeView& view, std::vector<float>* channel_scales) {
  const float* bias = view.bias() == nullptr ? nullptr : static_cast<const float*>(view.bias()->data);
  if (view.has_blocks()) return {ValuesOf(view), bias, nullptr, static_cast<const uint16_t*>(view.block_scales->data)};
  const abi::FloatArray& scales = *view.weight_quantization().scale;
  channel_scales->assign(scales.data, scales.data + scales.size);
  if (scales.size == 1) channel_scales->resize(static_cast<size_t>(view.out_channels()), scales.data[0]);
  return {ValuesOf(view), bias, channel_scales->data(), nullptr};
}

}  // namespace tfq::int4
