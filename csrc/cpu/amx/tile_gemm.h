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

constexpr int32_t kResidentBytes = 1 << 20;  // half of a second-level cache

// Every tile is 16 rows of 64 bytes. In memory that nobody writes: to compilers, ldtilecfg reads 8 bytes of it.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {kTile, kTile, kTile, kTile, kTile, kTile, kTile, kTile};
};
constexpr TileConfiguration kTileConfiguration;
inline void configure_tiles() { _tile_loadconfig(&kTileConfiguration); }
inline void release_tiles() { _tile_release(); }

// Operand c of 16 quads to A0, A1, B0 and B1.
template <class Math, int kTiles, int kA, int kB>
LOWBIT_INLINE void load_step(const char* x, const char* w, int c) {
  constexpr int64_t kRow = 64 * Math::kOperands;
  x += 64 * c;
  w += 64 * c;
  _tile_loadd(4, x, kRow);
  _tile_loadd(6, w, kTiles * kRow);
  if constexpr (kB == 2) _tile_loadd(7, w + kRow, kTiles * kRow);
  if constexpr (kA == 2) _tile_loadd(5, x + kTile * kRow, kRow);
}

template <class Math, int kA, int kB>
LOWBIT_INLINE void multiply_step() {
  Math::dot00();
  if constexpr (kB == 2) Math::dot01();
  if constexpr (kA == 2) Math::dot10();
  if constexpr (kA == 2 && kB == 2) Math::dot11();
}

// kA x kB sums over `steps` times 16 quads, to sums[row][kB * 16]. The first operands are loaded; leaves the first that
// follow loaded where there are `more`: before the sums are stored, for a load waits for every earlier store of unknown
// or equal address modulo 4096.
template <class Math, int kTiles, int kA, int kB>
LOWBIT_INLINE void multiply(const char*& x, const char*& w, int32_t steps, bool more, typename Math::Number* sums) {
  constexpr int64_t kRow = 64 * Math::kOperands;
  const auto next = [&]() __attribute__((always_inline)) {
    x += kA * kTile * kRow;
    w += kStepQuads * kTiles * kRow;
    load_step<Math, kTiles, kA, kB>(x, w, 0);
  };
  const auto multiply_quads = [&]() __attribute__((always_inline)) {
    multiply_step<Math, kA, kB>();
    LOWBIT_UNROLL
    for (int c = 1; c < Math::kOperands; ++c) {
      load_step<Math, kTiles, kA, kB>(x, w, c);
      multiply_step<Math, kA, kB>();
    }
  };
  _tile_zero(0);
  if constexpr (kB == 2) _tile_zero(1);
  if constexpr (kA == 2) _tile_zero(2);
  if constexpr (kA == 2 && kB == 2) _tile_zero(3);
  for (; steps > 1; --steps) {
    multiply_quads();
    next();
  }
  multiply_quads();
  if (more) next();
  constexpr int64_t kStride = 64 * kB;
  _tile_stored(0, sums, kStride);
  if constexpr (kB == 2) _tile_stored(1, sums + kTile, kStride);
  if constexpr (kA == 2) _tile_stored(2, sums + kTile * kTile * kB, kStride);
  if constexpr (kA == 2 && kB == 2) _tile_stored(3, sums + kTile * kTile * kB + kTile, kStride);
}

// The sums of piece p, of tiles from `first`, to y or to carry.
template <class Math, int kTiles, int kB>
LOWBIT_INLINE void join(const BlockArgs& a, int32_t p, int first, int rows, const typename Math::Number* sums) {
  using Number = typename Math::Number;
  const cpu::PieceRun run = a.pieces[p];
  auto* carry = static_cast<Number*>(a.carry);
  const int64_t x_values = int64_t{p} * kBlockRows;
  // f(sums of 16 rows of w, where they go, index of their values, index of the row's values, w_scale)
  const auto each = [&](const auto& f) __attribute__((always_inline)) {
    for (int v = 0; v < kB; ++v) {
      const int64_t w_values = (int64_t{p} * kTiles + first + v) * kTile;
      const __m512 scale = run.last ? _mm512_loadu_ps(a.w_scale + w_values) : _mm512_setzero_ps();
      const Number* from = sums + v * kTile;
      int64_t at = (first + v) * kTile;
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r, from += kB * kTile, at += kTiles * kTile) {
        f(Math::load(from), at, w_values, x_values + r, scale);
      }
    }
  };
  Math::with_start(a, [&](const auto& start) __attribute__((always_inline)) {
    const auto resumed = [&](auto sum, int64_t at, int64_t wi, int64_t xi) __attribute__((always_inline)) {
      return Math::add(start(sum, wi, xi), Math::load(carry + at));
    };
    const auto to_carry = [&](const auto& whole) __attribute__((always_inline)) {
      each([&](auto sum, int64_t at, int64_t wi, int64_t xi, __m512)
               __attribute__((always_inline)) { Math::store(carry + at, whole(sum, at, wi, xi)); });
    };
    const auto to_y = [&](const auto& whole) __attribute__((always_inline)) {
      each([&](auto sum, int64_t at, int64_t wi, int64_t xi, __m512 s) __attribute__((always_inline)) {
        const __m512 value = Math::to_float(whole(sum, at, wi, xi));
        _mm512_storeu_ps(a.y + at, _mm512_fmadd_ps(value, s, _mm512_loadu_ps(a.y + at)));
      });
    };
    const auto first_of = [&](auto sum, int64_t, int64_t wi, int64_t xi)
                              __attribute__((always_inline)) { return start(sum, wi, xi); };
    if (!run.last) {
      run.first ? to_carry(first_of) : to_carry(resumed);
    } else if (a.x_scale == nullptr && a.w_float_zero == nullptr) {
      run.first ? to_y(first_of) : to_y(resumed);
    } else {
      each([&](auto sum, int64_t at, int64_t wi, int64_t xi, __m512 s) __attribute__((always_inline)) {
        const __m512 value = Math::to_float(run.first ? start(sum, wi, xi) : resumed(sum, at, wi, xi));
        if (a.x_scale != nullptr) s = _mm512_mul_ps(s, _mm512_set1_ps(a.x_scale[xi]));
        __m512 y = _mm512_fmadd_ps(value, s, _mm512_loadu_ps(a.y + at));
        if (a.w_float_zero != nullptr) {
          const __m512 zero = _mm512_mul_ps(s, _mm512_loadu_ps(a.w_float_zero + wi));
          y = _mm512_fnmadd_ps(_mm512_set1_ps(a.x_float_sum[xi]), zero, y);
        }
        _mm512_storeu_ps(a.y + at, y);
      });
    }
  });
}

// The sums of a piece join while the products of the next one run.
template <class Math, int kTiles, int kA>
void run_panel(int rows, const BlockArgs& args) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  constexpr int kB = kTiles == 1 ? 1 : 2;
  alignas(64) typename Math::Number sums[2][kA * kB * kTile * kTile];
  for (int first = 0; first < kTiles; first += kB) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* w = static_cast<const char*>(a.w) + 64 * Math::kOperands * first;
    load_step<Math, kTiles, kA, kB>(x, w, 0);
    for (int32_t p = 0; p <= a.count; ++p) {
      if (p < a.count) {
        const int32_t steps = (a.pieces[p].quads + kStepQuads - 1) / kStepQuads;
        multiply<Math, kTiles, kA, kB>(x, w, steps, p + 1 < a.count, sums[p % 2]);
      }
      if (p > 0) join<Math, kTiles, kB>(a, p - 1, first, rows, sums[(p - 1) % 2]);
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
