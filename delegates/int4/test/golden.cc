#include "delegates/int4/test/golden.h"

#include <fstream>
#include <sstream>

namespace tfq::int4 {

std::vector<std::vector<int64_t>> ReadGolden(const std::string& name) {
  std::vector<std::vector<int64_t>> rows;
  std::ifstream file("tests/golden/" + name);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    rows.emplace_back();
    for (int64_t value; fields >> value;) rows.back().push_back(value);
  }
  return rows;
}

}  // namespace tfq::int4
