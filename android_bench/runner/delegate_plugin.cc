#include "android_bench/runner/delegate_plugin.h"

#include <cstddef>

namespace tfq::runner {
namespace {

// The plugin reports through a bare function pointer, so the message has to wait somewhere static.
std::string& ReportedError() {
  static std::string message;
  return message;
}

void KeepError(const char* message) {
  if (message != nullptr) ReportedError() = message;
}

}  // namespace

DelegatePlugin::~DelegatePlugin() {
  if (delegate_ != nullptr) destroy_(delegate_);
}

Status DelegatePlugin::Open(const std::string& path, const DelegateOptions& options) {
  TfLiteDelegate* (*create)(char**, char**, size_t, void (*)(const char*)) = nullptr;
  TFQ_RETURN_IF_ERROR(library_.Open(path));
  if (!library_.Bind("tflite_plugin_create_delegate", &create).ok() ||
      !library_.Bind("tflite_plugin_destroy_delegate", &destroy_).ok()) {
    return Status::BadInput("delegate " + path +
                            " is no external delegate: it lacks tflite_plugin_create_delegate or "
                            "tflite_plugin_destroy_delegate; give the library of one");
  }

  DelegateOptions copy = options;
  std::vector<char*> keys;
  std::vector<char*> values;
  for (auto& [key, value] : copy) {
    keys.push_back(key.data());
    values.push_back(value.data());
  }
  ReportedError().clear();
  delegate_ = create(keys.data(), values.data(), keys.size(), KeepError);
  if (delegate_ == nullptr) {
    const std::string& why = ReportedError();
    return Status::BadInput("delegate " + path + " refused its options: " + (why.empty() ? "it gave no reason" : why));
  }
  return Status::Ok();
}

}  // namespace tfq::runner
