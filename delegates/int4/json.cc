#include "delegates/int4/json.h"

#include <cstdio>

namespace tfq::int4 {

std::string JsonString(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string JsonList(const std::vector<std::string>& items, size_t indent) {
  const std::string line = indent == 0 ? "" : "\n" + std::string(indent, ' ');
  std::string list;
  for (const std::string& item : items) list += (list.empty() ? "" : indent == 0 ? ", " : ",") + line + item;
  if (indent > 0 && !items.empty()) list += "\n" + std::string(indent - 2, ' ');
  return "[" + list + "]";
}

}  // namespace tfq::int4
