// Names of operators, types and activations for messages.
#ifndef TFQ_DELEGATES_INT4_ABI_NAMES_H_
#define TFQ_DELEGATES_INT4_ABI_NAMES_H_

#include <string>

#include "delegates/int4/abi/tflite.h"

namespace tfq::abi {

std::string OpName(const Registration& registration);  // "CONV_2D", or a custom operator's own name
std::string TypeName(Type type);                       // "INT8"
std::string ActivationName(Activation activation);     // "relu6"

}  // namespace tfq::abi

#endif  // TFQ_DELEGATES_INT4_ABI_NAMES_H_
