// Words for messages about tensors.
#ifndef TFQ_DELEGATES_INT4_DESCRIBE_H_
#define TFQ_DELEGATES_INT4_DESCRIBE_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "delegates/int4/abi/tflite.h"

namespace tfq::int4 {

inline std::string Quoted(const abi::Tensor& tensor) {
  return std::string("'") + (tensor.name == nullptr ? "" : tensor.name) + "'";
}

inline std::string Number(int64_t value) { return std::to_string(value); }

inline std::string Real(float value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", static_cast<double>(value));
  return text;
}

inline int32_t Rank(const abi::Tensor& tensor) { return tensor.dims == nullptr ? 0 : tensor.dims->size; }

inline int32_t Dim(const abi::Tensor& tensor, int32_t axis) { return tensor.dims->data[axis]; }

// "1x8x8x4"
inline std::string Shape(const int32_t* begin, const int32_t* end) {
  std::string text;
  for (const int32_t* size = begin; size != end; ++size) text += (text.empty() ? "" : "x") + Number(*size);
  return text.empty() ? "scalar" : text;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_DESCRIBE_H_
