// The two functions by which programs load the delegate.
#include <cstddef>
#include <cstdio>
#include <string>

#include "delegates/int4/delegate.h"
#include "delegates/int4/options.h"

#define TFQ_EXPORT __attribute__((visibility("default")))

extern "C" {

// Makes a delegate from `count` pairs of key and value. nullptr when an option is wrong, with one line to
// `report_error`, or to stderr where the program gives no such function.
TFQ_EXPORT tfq::abi::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                             size_t count, void (*report_error)(const char*)) {
  tfq::int4::Options options;
  std::string error;
  if (tfq::int4::ParseOptions(keys, values, count, &options, &error)) {
    return (new tfq::int4::Int4Delegate(options))->get();
  }
  error = "tfq int4: " + error;
  if (report_error != nullptr) {
    report_error(error.c_str());
  } else {
    std::fprintf(stderr, "%s\n", error.c_str());
  }
  return nullptr;
}

TFQ_EXPORT void tflite_plugin_destroy_delegate(tfq::abi::Delegate* delegate) {
  if (delegate != nullptr) delete tfq::int4::Int4Delegate::From(delegate);
}

}  // extern "C"
