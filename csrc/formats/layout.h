// Where the bits of a matrix of codes lie: the canonical layouts that the API takes and checkpoints store, and the
// tiled ones that kernels read. Each is a map (row, column, bit) <-> position, stated once here.
#pragma once

#include <cstdint>

#include "formats/format.h"

namespace lowbit {

// kPlanes   [bits, rows, ceil(cols / 32)] int32, most significant plane first: bit j of word w of a row is element
//           32 w + j; bits past `cols` are zero. Integers, ternary, complex, tables; floats of 3, 5, 7 bits.
// kBytes    [rows, cols] bytes. Floats of 8 bits.
// kPacked6  [rows, 3 ceil(cols / 4)] bytes: element 4 q + i at bits 6 i .. 6 i + 5 of the 24-bit little-endian word q.
// kPacked4  [rows, ceil(cols / 2)] bytes: element 2 q in the low half of byte q. Floats of 4 bits.
enum class Canonical : uint8_t { kPlanes, kBytes, kPacked6, kPacked4 };

constexpr Canonical canonical(const ElementFormat& f) {
  if (!f.is_float()) return Canonical::kPlanes;
  return f.bits == 8   ? Canonical::kBytes
         : f.bits == 6 ? Canonical::kPacked6
         : f.bits == 4 ? Canonical::kPacked4
                       : Canonical::kPlanes;
}

// Storage elements (int32 words or bytes) in one row (of one plane).
constexpr int64_t canonical_row(Canonical c, int64_t cols) {
  switch (c) {
    case Canonical::kPlanes: return (cols + 31) / 32;
    case Canonical::kBytes: return cols;
    case Canonical::kPacked6: return (cols + 3) / 4 * 3;
    default: return (cols + 1) / 2;
  }
}

// Code (r, c) of a canonical matrix. Strides in storage elements; plane_stride only for kPlanes.
constexpr uint32_t canonical_get(Canonical layout, int bits, const void* data, int64_t row_stride, int64_t plane_stride,
                                 int64_t r, int64_t c) {
  switch (layout) {
    case Canonical::kPlanes: {
      const auto* p = static_cast<const uint32_t*>(data) + r * row_stride + c / 32;
      uint32_t code = 0;
      for (int b = 0; b < bits; ++b) code = code << 1 | (p[b * plane_stride] >> (c % 32) & 1u);
      return code;
    }
    case Canonical::kBytes: return static_cast<const uint8_t*>(data)[r * row_stride + c];
    case Canonical::kPacked6: {
      const auto* p = static_cast<const uint8_t*>(data) + r * row_stride + c / 4 * 3;
      const uint32_t word = p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16;
      return word >> (6 * (c % 4)) & 63u;
    }
    default: return static_cast<const uint8_t*>(data)[r * row_stride + c / 2] >> (4 * (c % 2)) & 15u;
  }
}

// Stores into a zeroed canonical matrix (bits are or-ed in).
constexpr void canonical_put(Canonical layout, int bits, void* data, int64_t row_stride, int64_t plane_stride,
                             int64_t r, int64_t c, uint32_t code) {
  switch (layout) {
    case Canonical::kPlanes: {
      auto* p = static_cast<uint32_t*>(data) + r * row_stride + c / 32;
      for (int b = 0; b < bits; ++b) p[b * plane_stride] |= (code >> (bits - 1 - b) & 1u) << (c % 32);
      return;
    }
    case Canonical::kBytes: static_cast<uint8_t*>(data)[r * row_stride + c] = static_cast<uint8_t>(code); return;
    case Canonical::kPacked6: {
      auto* p = static_cast<uint8_t*>(data) + r * row_stride + c / 4 * 3;
      const uint32_t word = code << (6 * (c % 4));
      p[0] = static_cast<uint8_t>(p[0] | word);
      p[1] = static_cast<uint8_t>(p[1] | word >> 8);
      p[2] = static_cast<uint8_t>(p[2] | word >> 16);
      return;
    }
    default: {
      auto& byte = static_cast<uint8_t*>(data)[r * row_stride + c / 2];
      byte = static_cast<uint8_t>(byte | code << (4 * (c % 2)));
    }
  }
}

// tile16, version 1: [ceil(rows / 16), ceil(cols / 4), 8 * bits] bytes, one tile = 16 rows x 4 columns = 64 codes,
// rows and columns past the matrix are code 0. Element e = 4 * (row in tile) + (column in tile), so that a decoded tile
// is one 64-byte register whose 32-bit lane i holds four consecutive columns of row i: the operand of an int8 dot.
//   bits == 8: byte e is the code.
//   bits <  8: bit e % 8 of byte (e / 8) * bits + b is bit b of code e (b = 0 least significant), so that eight codes
//              are an 8 x bits bit matrix that one bit-matrix transpose turns into bytes.
struct TilePosition {
  int64_t byte;  // of bit 0 of the code
  int bit;       // within the byte; for bits == 8 the code is the whole byte
};
inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileCols = 4;

constexpr TilePosition tile16_position(int bits, int64_t cols, int64_t r, int64_t c) {
  const int64_t tile = (r / kTileRows) * ((cols + kTileCols - 1) / kTileCols) + c / kTileCols;
  const int64_t e = kTileCols * (r % kTileRows) + c % kTileCols;
  if (bits == 8) return {tile * 64 + e, 0};
  return {tile * 8 * bits + e / 8 * bits, static_cast<int>(e % 8)};
}

constexpr uint32_t tile16_get(int bits, const uint8_t* data, int64_t cols, int64_t r, int64_t c) {
  const TilePosition at = tile16_position(bits, cols, r, c);
  if (bits == 8) return data[at.byte];
  uint32_t code = 0;
  for (int b = 0; b < bits; ++b) code |= (data[at.byte + b] >> at.bit & 1u) << b;
  return code;
}

constexpr void tile16_put(int bits, uint8_t* data, int64_t cols, int64_t r, int64_t c, uint32_t code) {
  const TilePosition at = tile16_position(bits, cols, r, c);
  if (bits == 8) {
    data[at.byte] = static_cast<uint8_t>(code);
    return;
  }
  for (int b = 0; b < bits; ++b) {
    data[at.byte + b] = static_cast<uint8_t>(data[at.byte + b] | (code >> b & 1u) << at.bit);
  }
}

constexpr int64_t tile16_bytes(int bits, int64_t rows, int64_t cols) {
  return (rows + kTileRows - 1) / kTileRows * ((cols + kTileCols - 1) / kTileCols) * 8 * bits;
}

// mma64, version 1: what the tensor-core kernels read. [ceil(rows / 16), ceil(cols / 64), 32 lanes, ...] bytes, one
// tile = 16 rows x 64 columns = 128 * bits bytes; rows and columns past the matrix are code 0. Lane l holds the A
// fragments of two m16n8k32 byte products: code 4 i + j of its 32 is
//   row l / 4 + 8 (i % 2), column 32 (i / 4) + 16 (i / 2 % 2) + 4 (l % 4) + j            i = 0..7, j = 0..3
// (and, with K numbered alike in both operands, of four m16n8k16 16-bit ones: chunk i / 2 is 16 columns). The bits of a
// code are cut into fields of 4, 2 and 1 bits from the low end up (7 = 4 + 2 + 1). A field of f bits takes f words a
// lane: word i / (8 / f) has it at bit 8 j + f (i % (8 / f)), so that one shift and one mask give four bytes. Fields
// lie one after the other, each [32 lanes][f words]. Codes of 8 bits are bytes as they are: word i of a lane at [i /
// 4][lane][i % 4].
struct MmaPosition {
  int64_t byte;  // of the field's byte
  int bit;       // within it
  int bits;      // of the field
};
inline constexpr int64_t kMmaRows = 16;
inline constexpr int64_t kMmaCols = 64;

constexpr int64_t mma64_bytes(int bits, int64_t rows, int64_t cols) {
  return (rows + kMmaRows - 1) / kMmaRows * ((cols + kMmaCols - 1) / kMmaCols) * 128 * bits;
}

// Where the bits from `low` up of code (r, c) lie; `low` is where a field begins (0; 4 after a field of 4, ...).
constexpr MmaPosition mma64_position(int bits, int64_t cols, int64_t r, int64_t c, int low) {
  const int64_t tile = r / kMmaRows * ((cols + kMmaCols - 1) / kMmaCols) + c / kMmaCols;
  const int row = static_cast<int>(r % kMmaRows), col = static_cast<int>(c % kMmaCols);
  const int lane = row % 8 * 4 + col % 16 / 4;
  const int i = col / 16 * 2 + row / 8;
  if (bits == 8) return {tile * 1024 + 512 * (i / 4) + 4 * (4 * lane + i % 4) + col % 4, 0, 8};
  const int rest = bits - low;
  const int f = rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
  const int per_word = 8 / f;
  return {tile * 128 * bits + 128 * low + 4 * (lane * f + i / per_word) + col % 4, f * (i % per_word), f};
}

constexpr uint32_t mma64_get(int bits, const uint8_t* data, int64_t cols, int64_t r, int64_t c) {
  uint32_t code = 0;
  for (int low = 0; low < bits;) {
    const MmaPosition at = mma64_position(bits, cols, r, c, low);
    code |= (data[at.byte] >> at.bit & ((1u << at.bits) - 1u)) << low;
    low += at.bits;
  }
  return code;
}

// Stores into a zeroed matrix (bits are or-ed in).
constexpr void mma64_put(int bits, uint8_t* data, int64_t cols, int64_t r, int64_t c, uint32_t code) {
  for (int low = 0; low < bits;) {
    const MmaPosition at = mma64_position(bits, cols, r, c, low);
    data[at.byte] = static_cast<uint8_t>(data[at.byte] | (code >> low & ((1u << at.bits) - 1u)) << at.bit);
    low += at.bits;
  }
}

// Orders of other libraries, which pack writes and unpack reads and no kernel computes on. A unit (byte or int32) holds
// its codes from the low end up; slots past the matrix are zero.
//   kPlain       [rows, cols] bytes, one code in each.
//   kNibbleLow   [rows, ceil(cols / 2)] bytes of two 4-bit codes: element 2 q in the low half of byte q.
//   kNibbleHigh  the same with element 2 q in the high half (bitsandbytes).
//   kGptq        [ceil(cols / s), rows] int32 of s = 32 / bits codes, 2, 4 or 8 bits: word (q, r) holds columns
//                s q .. s q + s - 1 of row r (`qweight` of GPTQ checkpoints; a row is an output feature).
//   kAwq         [cols, rows / 8] int32 of 4-bit codes: word (c, q) holds rows 8 q + 0, 2, 4, 6, 1, 3, 5, 7 of column c
//                (`qweight` of AWQ checkpoints).
enum class Order : uint8_t { kPlain, kNibbleLow, kNibbleHigh, kGptq, kAwq };

struct OrderShape {
  int64_t lines;
  int64_t units;  // in a line
  int unit_bytes;
  int slots;  // codes in a unit
};

constexpr OrderShape order_shape(Order order, int bits, int64_t rows, int64_t cols) {
  switch (order) {
    case Order::kPlain: return {rows, cols, 1, 1};
    case Order::kGptq: return {(cols * bits + 31) / 32, rows, 4, 32 / bits};
    case Order::kAwq: return {cols, (rows + 7) / 8, 4, 8};
    default: return {rows, (cols + 1) / 2, 1, 2};
  }
}

struct ElementIndex {
  int64_t row;
  int64_t col;
};

// The element at bits slot * bits of a unit.
constexpr ElementIndex order_element(Order order, int bits, int64_t line, int64_t unit, int slot) {
  constexpr int awq[] = {0, 2, 4, 6, 1, 3, 5, 7};
  switch (order) {
    case Order::kPlain: return {line, unit};
    case Order::kNibbleLow: return {line, 2 * unit + slot};
    case Order::kNibbleHigh: return {line, 2 * unit + 1 - slot};
    case Order::kGptq: return {unit, line * (32 / bits) + slot};
    default: return {8 * unit + awq[slot], line};
  }
}

}  // namespace lowbit
