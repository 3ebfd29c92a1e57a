// libFuzzer's entry: damaged graphs through claim, prepare and invoke. `make fuzz` runs it.
#include "delegates/int4/test/damaged_graph.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tfq::int4::RunDamagedGraph(data, size);
  return 0;
}
