// Files that the delegate writes.
#ifndef TFQ_DELEGATES_INT4_FILES_H_
#define TFQ_DELEGATES_INT4_FILES_H_

#include <string>

namespace tfq::int4 {

// Writes `text` beside `path` and renames it. Returns what went wrong, or nothing.
std::string WriteFile(const std::string& path, const std::string& text);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_FILES_H_
