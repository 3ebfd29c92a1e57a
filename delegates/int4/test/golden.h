// Reads the golden vectors in tests/golden: lines of tab-separated integers below a line that starts with '#'.
#ifndef TFQ_DELEGATES_INT4_TEST_GOLDEN_H_
#define TFQ_DELEGATES_INT4_TEST_GOLDEN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tfq::int4 {

// The rows of tests/golden/`name`; empty when the file cannot be read (tests run in the project's root).
std::vector<std::vector<int64_t>> ReadGolden(const std::string& name);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_GOLDEN_H_
