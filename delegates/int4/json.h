// The little of JSON that the delegate writes.
#ifndef TFQ_DELEGATES_INT4_JSON_H_
#define TFQ_DELEGATES_INT4_JSON_H_

#include <string>
#include <vector>

namespace tfq::int4 {

// `text` quoted and escaped.
std::string JsonString(const std::string& text);

// "[a, b]" of items that are JSON already; with `indent`, each on a line of its own behind so many spaces.
std::string JsonList(const std::vector<std::string>& items, size_t indent = 0);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_JSON_H_
