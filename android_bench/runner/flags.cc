#include "android_bench/runner/flags.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <functional>

namespace tfq::runner {
namespace {

using Setter = std::function<Status(const std::string&)>;

struct Flag {
  const char* name;
  Setter set;
};

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = text.find(separator, begin);
    const std::string part = text.substr(begin, end == std::string::npos ? std::string::npos : end - begin);
    if (!part.empty()) parts.push_back(part);
    if (end == std::string::npos) break;
    begin = end + 1;
  }
  return parts;
}

Setter Text(std::string* to) {
  return [to](const std::string& value) {
    *to = value;
    return Status::Ok();
  };
}

Setter List(std::vector<std::string>* to) {
  return [to](const std::string& value) {
    *to = Split(value, ',');
    return Status::Ok();
  };
}

Setter Int(int64_t* to, int64_t low) {
  return [to, low](const std::string& value) {
    char* end = nullptr;
    errno = 0;
    *to = std::strtoll(value.c_str(), &end, 10);
    if (errno != 0 || value.empty() || *end != '\0') return Status::BadInput("'" + value + "' is not a whole number");
    if (*to < low) return Status::BadInput("'" + value + "' is too small; the least is " + std::to_string(low));
    return Status::Ok();
  };
}

Setter Seconds(double* to) {
  return [to](const std::string& value) {
    char* end = nullptr;
    *to = std::strtod(value.c_str(), &end);
    if (value.empty() || *end != '\0' || !std::isfinite(*to))
      return Status::BadInput("'" + value + "' is not a number of seconds");
    return Status::Ok();
  };
}

Setter Bool(bool* to) {
  return [to](const std::string& value) {
    if (value != "true" && value != "false" && value != "1" && value != "0" && !value.empty()) {
      return Status::BadInput("'" + value + "' is not true or false");
    }
    *to = value.empty() || value == "true" || value == "1";
    return Status::Ok();
  };
}

}  // namespace

Status ParseDelegateOptions(const std::string& text, DelegateOptions* options) {
  for (const std::string& entry : Split(text, ';')) {
    const size_t colon = entry.find(':');
    if (colon == std::string::npos || colon == 0) {
      return Status::BadInput("'" + entry +
                              "' is not key:value; write --external_delegate_options='key:value;key:value'");
    }
    options->emplace_back(entry.substr(0, colon), entry.substr(colon + 1));
  }
  return Status::Ok();
}

Status ParseFlags(int argc, char** argv, Flags* flags) {
  const std::vector<Flag> table = {
      {"graph", Text(&flags->graph)},
      {"runtime", Text(&flags->runtime)},
      {"runtime_library", Text(&flags->runtime_library)},
      {"runtime_version", Text(&flags->runtime_version)},
      {"num_threads", Int(&flags->num_threads, 1)},
      {"num_runs", Int(&flags->num_runs, 1)},
      {"warmup_runs", Int(&flags->warmup_runs, 0)},
      {"min_secs", Seconds(&flags->min_secs)},
      {"max_secs", Seconds(&flags->max_secs)},
      {"run_delay", Seconds(&flags->run_delay)},
      {"seed", Int(&flags->seed, 0)},
      {"use_xnnpack", Bool(&flags->use_xnnpack)},
      {"enable_op_profiling", Bool(&flags->enable_op_profiling)},
      {"external_delegate_path", Text(&flags->external_delegate_path)},
      {"external_delegate_options",
       [flags](const std::string& value) { return ParseDelegateOptions(value, &flags->external_delegate_options); }},
      {"delegate_report", Text(&flags->delegate_report)},
      {"input", List(&flags->input)},
      {"input_type", List(&flags->input_type)},
      {"output_prefix", Text(&flags->output_prefix)},
      {"output_json", Text(&flags->output_json)},
  };
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--", 0) != 0) return Status::BadInput("'" + argument + "' is not a flag; write --name=value");
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    const Flag* found = nullptr;
    for (const Flag& flag : table) {
      if (name == flag.name) found = &flag;
    }
    if (found == nullptr) {
      std::string names;
      for (const Flag& flag : table) names += std::string(names.empty() ? "" : ", ") + flag.name;
      return Status::BadInput("no flag --" + name + "; there are: " + names);
    }
    if (Status status = found->set(value); !status.ok()) return Status::BadInput("--" + name + ": " + status.line());
  }
  if (flags->graph.empty()) return Status::BadInput("--graph is missing; name a .tflite file");
  if (flags->runtime_library.empty())
    return Status::BadInput("--runtime_library is missing; name libLiteRt.so or the TFLite C library");
  if (flags->runtime != "litert" && flags->runtime != "tflite") {
    return Status::BadInput("--runtime: '" + flags->runtime + "' is not a runtime; use litert or tflite");
  }
  if (flags->input.empty() != flags->output_prefix.empty()) {
    return Status::BadInput("--input and --output_prefix go together; name both or neither");
  }
  return Status::Ok();
}

}  // namespace tfq::runner
