// Depthwise convolution, one output at a time, straight from the definition, for weights of either width.
#include <cstring>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

size_t Values(const DepthwiseShape& shape) { return size_t(shape.taps) * shape.channels; }

template <int32_t bits>
size_t PackedBytes(const DepthwiseShape& shape) {
  return RoundUp(ChannelSectionBytes(shape.channels) + ValueBytes(Values(shape), bits), kPackedAlignment);
}

template <int32_t bits>
void Pack(const DepthwiseShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  int32_t* section = static_cast<int32_t*>(packed);
  for (int32_t c = 0; c < shape.channels; ++c) {
    const int32_t sum = SumOfWeights(source.values, c, shape.taps, shape.channels);
    int32_t channel[3];
    WriteChannelSection(source, c, c + 1, 1, source.input_zero_point, &sum, channel);
    for (int32_t i = 0; i < 3; ++i) section[i * shape.channels + c] = channel[i];
  }
  std::memcpy(static_cast<uint8_t*>(packed) + ChannelSectionBytes(shape.channels), source.values.bytes,
              ValueBytes(Values(shape), bits));
}

template <int32_t bits>
void Run(const DepthwiseShape& shape, const DepthwiseTile& tile) {
  const int32_t* bias = static_cast<const int32_t*>(tile.packed);
  const int32_t* multiplier = bias + shape.channels;
  const int32_t* shift = multiplier + shape.channels;
  const WeightValues values = {static_cast<const uint8_t*>(tile.packed) + ChannelSectionBytes(shape.channels), bits};
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.channels);
  for (int32_t p = 0; p < tile.pixels; ++p) {
    for (int32_t c = 0; c < shape.channels; ++c) {
      int32_t sum = bias[c];
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int8_t* row = tile.rows[size_t(p) * shape.taps + tap];
        sum = WrappingAdd(sum, row[c] * ValueAt(values, size_t(tap) * shape.channels + c));
      }
      tile.out[p * tile.out_stride + c] =
          ApplyOutputStage(sum, multiplier[c], shift[c], c >= ties_away_begin, tile.stage);
    }
  }
}

}  // namespace

const DepthwiseKernel dwconv_qs8_qs4cw_1c1_reference = {
    "dwconv_qs8_qs4cw_1c1_reference", CpuTier::kReference, kQs4cw, PackedBytes<4>, Pack<4>, Run<4>,
};

const DepthwiseKernel dwconv_qs8_qs8cw_1c1_reference = {
    "dwconv_qs8_qs8cw_1c1_reference", CpuTier::kReference, kQs8cw, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
