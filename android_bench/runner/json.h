// Writes one JSON document; the caller keeps the order of keys and nesting.
#ifndef TFQ_ANDROID_BENCH_RUNNER_JSON_H_
#define TFQ_ANDROID_BENCH_RUNNER_JSON_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tfq::runner {

class JsonWriter {
 public:
  JsonWriter& BeginObject();
  JsonWriter& EndObject();
  JsonWriter& BeginArray();
  JsonWriter& EndArray();
  JsonWriter& Key(const std::string& key);
  JsonWriter& String(const std::string& value);
  JsonWriter& Int(int64_t value);
  JsonWriter& Bool(bool value);
  JsonWriter& Null();
  // A value that is JSON already.
  JsonWriter& Raw(const std::string& json);

  const std::string& text() const { return text_; }

 private:
  void Separate();

  std::string text_;
  bool comma_ = false;
};

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_JSON_H_
