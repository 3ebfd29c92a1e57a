#include <immintrin.h>

#include "delegates/int4/bench/peaks/product_loop.h"

namespace tfq::int4 {
namespace {

constexpr int kTileSums = 6;
constexpr int64_t kTileMacs = 16 * 16 * 64;

void Run(int64_t rounds) {
  // Palette 1, then for each of eight tiles 64 bytes (16 bits each, from byte 16 on) and 16 rows (from byte 48 on).
  alignas(64) uint8_t config[64] = {1};
  for (int i = 0; i < 8; ++i) {
    config[16 + 2 * i] = 64;
    config[48 + i] = 16;
  }
  asm volatile("" : : "r"(config) : "memory");  // GCC takes the instruction to read the first 8 bytes alone
  _tile_loadconfig(config);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbsud(0, 6, 7);
    _tile_dpbsud(1, 6, 7);
    _tile_dpbsud(2, 6, 7);
    _tile_dpbsud(3, 6, 7);
    _tile_dpbsud(4, 6, 7);
    _tile_dpbsud(5, 6, 7);
  }
  _tile_release();
}

}  // namespace

const ProductLoop kAvx512AmxProducts = {CpuTier::kAvx512Amx, "tdpbsud", kTileSums* kTileMacs, Run};

}  // namespace tfq::int4
