// The loops of the GEMM engines on tiles, for one kind of numbers each (Math):
//   kOperands          64-byte operands of one decoded tile of weights
//   dot00 .. dot11     adds the product of tiles A0 or A1, of x, and B0 or B1, of w, to the sum of the pair
//   Sum, load, store   a vector of sums
//   start              what a piece's sums begin at, added after its products
//   add, to_float      of sums
//
// A tile of x is 16 rows of 64 bytes as packed: one operand of 16 quads. A tile of w is the same operand of 16 quads of
// a panel, 16 rows of w in each. Up to 2 x 2 tiles of sums are live: C0 .. C3, beside A0, A1, B0 and B1. A piece takes
// whole tiles; x is zero beyond its quads.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/gemm_driver.h"
#include "cpu/simd/vector.h"

namespace lowbit::amx {
namespace {

using cpu::BlockArgs;

constexpr int kTile = 16;  // rows, and quads of a step
constexpr int kStepQuads = kTile;
constexpr int kBlockRows = 2 * kTile;  // Engine::rows
constexpr int kTileBytes = 64 * kTile;

// Every tile is 16 rows of 64 bytes. In memory that nobody writes: to compilers, ldtilecfg reads 8 bytes of it.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {kTile, kTile, kTile, kTile, kTile, kTile, kTile, kTile};
};
constexpr TileConfiguration kTileConfiguration;
inline void configure_tiles() { _tile_loadconfig(&kTileConfiguration); }
inline void release_tiles() { _tile_release(); }

// kA x kB sums over `quads` quads, to sums[row][kB * 16].
template <class Math, int kTiles, int kA, int kB>
LOWBIT_INLINE void multiply(const char*& x, const char*& w, int32_t quads, typename Math::Number* sums) {
  constexpr int kOperands = Math::kOperands;
  constexpr int64_t kQuad = int64_t{kTiles} * 64 * kOperands;
  _tile_zero(0);
  if constexpr (kB == 2) _tile_zero(1);
  if constexpr (kA == 2) _tile_zero(2);
  if constexpr (kA == 2 && kB == 2) _tile_zero(3);
  for (; quads > 0; quads -= kStepQuads) {
    LOWBIT_UNROLL
    for (int c = 0; c < kOperands; ++c) {
      const char* a = x + 64 * c;
      const char* b = w + 64 * c;
      _tile_loadd(4, a, 64 * kOperands);
      _tile_loadd(6, b, kQuad);
      Math::dot00();
      if constexpr (kB == 2) {
        _tile_loadd(7, b + 64 * kOperands, kQuad);
        Math::dot01();
      }
      if constexpr (kA == 2) {
        _tile_loadd(5, a + kTileBytes * kOperands, 64 * kOperands);
        Math::dot10();
        if constexpr (kB == 2) Math::dot11();
      }
    }
    x += kA * kTileBytes * kOperands;
    w += kStepQuads * kQuad;
  }
  constexpr int64_t kStride = 64 * kB;
  _tile_stored(0, sums, kStride);
  if constexpr (kB == 2) _tile_stored(1, sums + kTile, kStride);
  if constexpr (kA == 2) _tile_stored(2, sums + kTile * kTile * kB, kStride);
  if constexpr (kA == 2 && kB == 2) _tile_stored(3, sums + kTile * kTile * kB + kTile, kStride);
}

// The sums of piece p, of tiles from `first`, to y or to carry.
template <class Math, int kTiles, int kB>
LOWBIT_INLINE void join(const BlockArgs& a, int32_t p, int first, int rows, const typename Math::Number* sums) {
  const cpu::PieceRun run = a.pieces[p];
  // f(r, sums of 16 rows of w, where they go, index of their values, index of the row's values)
  const auto each = [&](const auto& f) __attribute__((always_inline)) {
    for (int r = 0; r < rows; ++r) {
      LOWBIT_UNROLL
      for (int v = 0; v < kB; ++v) {
        const int64_t wi = (int64_t{p} * kTiles + first + v) * kTile, xi = int64_t{p} * kBlockRows + r;
        f(Math::load(sums + (r * kB + v) * kTile), (int64_t{r} * kTiles + first + v) * kTile, wi, xi);
      }
    }
  };
  auto* carry = static_cast<typename Math::Number*>(a.carry);
  const auto carried = [&](auto start) __attribute__((always_inline)) {
    if (!run.last) {
      run.first ? each([&](auto sum, int64_t at, int64_t wi, int64_t xi)
                           __attribute__((always_inline)) { Math::store(carry + at, start(sum, wi, xi)); })
                : each([&](auto sum, int64_t at, int64_t wi, int64_t xi) __attribute__((always_inline)) {
                    Math::store(carry + at, Math::add(start(sum, wi, xi), Math::load(carry + at)));
                  });
      return;
    }
    const auto whole = [&](auto sum, int64_t at, int64_t wi, int64_t xi) __attribute__((always_inline)) {
      sum = start(sum, wi, xi);
      return Math::to_float(run.first ? sum : Math::add(sum, Math::load(carry + at)));
    };
    if (a.x_scale == nullptr && a.w_float_zero == nullptr) {
      each([&](auto sum, int64_t at, int64_t wi, int64_t xi) __attribute__((always_inline)) {
        const __m512 y = _mm512_loadu_ps(a.y + at), s = _mm512_loadu_ps(a.w_scale + wi);
        _mm512_storeu_ps(a.y + at, _mm512_fmadd_ps(whole(sum, at, wi, xi), s, y));
      });
      return;
    }
    each([&](auto sum, int64_t at, int64_t wi, int64_t xi) __attribute__((always_inline)) {
      __m512 y = _mm512_loadu_ps(a.y + at), s = _mm512_loadu_ps(a.w_scale + wi);
      if (a.x_scale != nullptr) s = _mm512_mul_ps(s, _mm512_set1_ps(a.x_scale[xi]));
      y = _mm512_fmadd_ps(whole(sum, at, wi, xi), s, y);
      if (a.w_float_zero != nullptr) {
        const __m512 zero = _mm512_mul_ps(s, _mm512_loadu_ps(a.w_float_zero + wi));
        y = _mm512_fnmadd_ps(_mm512_set1_ps(a.x_float_sum[xi]), zero, y);
      }
      _mm512_storeu_ps(a.y + at, y);
    });
  };
  Math::with_start(a, carried);
}

template <class Math, int kTiles, int kA>
void run_panel(int rows, const BlockArgs& args) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  constexpr int kB = kTiles == 1 ? 1 : 2;
  alignas(64) typename Math::Number sums[kA * kB * kTile * kTile];
  for (int first = 0; first < kTiles; first += kB) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* w = static_cast<const char*>(a.w) + 64 * Math::kOperands * first;
    for (int32_t p = 0; p < a.count; ++p) {
      multiply<Math, kTiles, kA, kB>(x, w, a.pieces[p].quads, sums);
      join<Math, kTiles, kB>(a, p, first, rows, sums);
    }
  }
}

template <class Math>
void panel(int tiles, int rows, const BlockArgs& a) {
  const bool one = rows <= kTile;
  switch (tiles) {
    case 1: return one ? run_panel<Math, 1, 1>(rows, a) : run_panel<Math, 1, 2>(rows, a);
    case 2: return one ? run_panel<Math, 2, 1>(rows, a) : run_panel<Math, 2, 2>(rows, a);
    default: return one ? run_panel<Math, 4, 1>(rows, a) : run_panel<Math, 4, 2>(rows, a);
  }
}

}  // namespace
}  // namespace lowbit::amx
