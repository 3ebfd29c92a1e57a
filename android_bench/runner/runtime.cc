#include "android_bench/runner/runtime.h"

namespace tfq::runner {

std::string ElementTypeName(int32_t type) {
  switch (static_cast<ElementType>(type)) {
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kInt32:
      return "int32";
    case ElementType::kUint8:
      return "uint8";
    case ElementType::kInt64:
      return "int64";
    case ElementType::kBool:
      return "bool";
    case ElementType::kInt16:
      return "int16";
    case ElementType::kInt8:
      return "int8";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kFloat64:
      return "float64";
    case ElementType::kUint16:
      return "uint16";
    case ElementType::kUint32:
      return "uint32";
    case ElementType::kUint64:
      return "uint64";
  }
  return "type" + std::to_string(type);
}

}  // namespace tfq::runner
