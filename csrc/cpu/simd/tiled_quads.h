// Four columns of a row of tiled codes (formats/layout.h) as four bytes. Of tile16 for what reads by rows; of mma64 the
// CPU's way to read what was made for tensor cores. Static, as all of this folder's headers.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "common/qmatrix.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// A row holds 4 codes of a tile16 tile: a nibble of each of `bits` bytes, which pdep spreads over four bytes.
struct TileQuads {
  const uint8_t* data;
  int64_t tiles;  // in a row of tiles
  int bits;

  explicit TileQuads(const Codes& codes)
      : data(static_cast<const uint8_t*>(codes.data)), tiles((codes.cols + 3) / 4), bits(codes.format->bits) {}

  uint32_t get(int64_t r, int64_t quad) const {
    const uint8_t* p = data + (r / 16 * tiles + quad) * 8 * bits;
    uint32_t codes = 0;
    if (bits == 8) {
      std::memcpy(&codes, p + r % 16 * 4, 4);
      return codes;
    }
    p += r % 16 / 2 * bits;
    const int shift = static_cast<int>(r % 2) * 4;
    for (int b = 0; b < bits; ++b) codes |= _pdep_u32(static_cast<uint32_t>(p[b]) >> shift & 15u, 0x01010101u) << b;
    return codes;
  }
};

// Where the words of rows and quads of one matrix lie. A field of `f` bits holds word i of a lane, i = 2 (quad / 4) +
// (row / 8), at bit f (i % (8 / f)) of its word i / (8 / f); the lane is 4 (row % 8) + quad % 4.
struct MmaQuads {
  const uint8_t* data;
  int64_t tiles;  // in a row of tiles
  int bits;

  explicit MmaQuads(const Codes& codes)
      : data(static_cast<const uint8_t*>(codes.data)), tiles((codes.cols + 63) / 64), bits(codes.format->bits) {}

  const uint8_t* tile(int64_t row, int64_t quad) const { return data + (row / 16 * tiles + quad / 16) * 128 * bits; }

  uint32_t get(int64_t r, int64_t quad) const {
    const uint8_t* p = tile(r, quad);
    const int row = static_cast<int>(r % 16), q = static_cast<int>(quad % 16);
    const int i = q / 4 * 2 + row / 8, lane = row % 8 * 4 + q % 4;
    uint32_t codes = 0;
    if (bits == 8) {
      std::memcpy(&codes, p + 512 * (i / 4) + 4 * (4 * lane + i % 4), 4);
      return codes;
    }
    for (int low = 0, f; low < bits; low += f) {
      f = field(low);
      uint32_t word = 0;
      std::memcpy(&word, p + 128 * low + 4 * (lane * f + i * f / 8), 4);
      codes |= (word >> (f * i % 8) & mask(f)) << low;
    }
    return codes;
  }

  int field(int low) const { return bits - low >= 4 ? 4 : bits - low >= 2 ? 2 : 1; }
  static uint32_t mask(int f) { return ((1u << f) - 1u) * 0x01010101u; }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
