// How a row of x lies in packed activations (gemm_driver.h): its columns of one piece, in quads.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/gemm_driver.h"

namespace lowbit::cpu {

inline int32_t bytes_of_number(const Engine& engine) { return engine.x_quad / 4 / engine.x_terms; }

// Copies the columns of piece `p` as quads, `stride` bytes apart; zeros around. kBytes are those of one number; kWiden:
// bytes become 16-bit integers.
template <int kBytes, bool kWiden = false>
inline void pack_piece(const Piece& p, const char* row, char* out, int64_t stride) {
  constexpr int kQuad = 4 * kBytes;
  const auto put = [&](char* to, const char* from) {
    if constexpr (kWiden) {
      const auto* x = reinterpret_cast<const int8_t*>(from);
      const int16_t quad[] = {x[0], x[2], x[1], x[3]};
      std::memcpy(to, quad, sizeof(quad));
    } else if (kBytes == 2) {  // pairs of columns 0, 2 and 1, 3: the order in which a tile's bytes decode
      std::memcpy(to, from, 2);
      std::memcpy(to + 2, from + 4, 2);
      std::memcpy(to + 4, from + 2, 2);
      std::memcpy(to + 6, from + 6, 2);
    } else {
      std::memcpy(to, from, kQuad);
    }
  };
  const int64_t head = p.source_column % kTileCols;
  const char* in = row + (p.column - head) * kBytes;
  const auto edge = [&](int64_t q) {  // a quad of which some columns lie outside
    alignas(16) char quad[kQuad] = {};
    for (int64_t i = 0; i < kTileCols; ++i) {
      const int64_t c = q * kTileCols + i - head;
      if (c >= 0 && c < p.columns) std::memcpy(quad + i * kBytes, row + (p.column + c) * kBytes, kBytes);
    }
    put(out + q * stride, quad);
  };
  const int64_t begin = head != 0 ? 1 : 0;
  const int64_t end = (head + p.columns) % kTileCols != 0 ? p.quads - 1 : p.quads;
  if (begin == 1) edge(0);
  for (int64_t q = begin; q < end; ++q) put(out + q * stride, in + q * kQuad);
  if (end < p.quads && (p.quads > 1 || begin == 0)) edge(p.quads - 1);
}

// Quads of bf16 as pairs of columns 0, 2 and 1, 3, like pack_piece().
inline void order_pairs(char* quads, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 8) {
    uint64_t quad = 0;
    std::memcpy(&quad, quads + i, 8);
    quad = (quad & 0xffff00000000ffff) | (quad >> 16 & 0xffff0000) | (quad & 0xffff0000) << 16;
    std::memcpy(quads + i, &quad, 8);
  }
}

// The same for engines that take `unit` quads of a row together: rows of so many columns, `stride` bytes apart.
inline void pack_units(const Engine& engine, const Piece& p, const char* row, char* out, int64_t stride) {
  const int64_t bytes = bytes_of_number(engine), columns = kTileCols * engine.unit;
  for (int64_t c = -(p.source_column % kTileCols); c < p.columns; c += columns, out += stride) {
    const int64_t begin = std::max<int64_t>(c, 0), end = std::min<int64_t>(c + columns, p.columns);
    if (end - begin < columns) std::memset(out, 0, static_cast<size_t>(columns * bytes));
    std::memcpy(out + (begin - c) * bytes, row + (p.column + begin) * bytes,
                static_cast<size_t>((end - begin) * bytes));
    if (bytes == 2) order_pairs(out, columns * bytes);
  }
}

}  // namespace lowbit::cpu
