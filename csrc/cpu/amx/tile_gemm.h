// The loops of the GEMM engines on tiles, for one kind of numbers each (Math):
//   Number                  of sums
//   kStepQuads              quads of a tile
//   dot00 .. dot11          adds the product of tile A0 or A1, of x, and B0 or B1, of w, to the sums of the pair
//   load, store, add, to_float
//                           of vectors of sums
//   with_start              what a piece's sums begin at, added after its products
//   is_plain, plain_start   whether that is nothing or a number for each row of x (xi) alone, and a sum with it
//
// A tile is 16 rows of 64 bytes, 1 KiB in a row: of x, kStepQuads quads of 16 rows as packed; of w, as many quads of 16
// rows of it. Up to 2 x 2 tiles of sums are live: C0 .. C3, beside A0, A1, B0 and B1. A piece takes whole tiles; x is
// zero beyond its quads.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/gemm_driver.h"
#include "cpu/simd/vector.h"

namespace lowbit::amx {
namespace {

using cpu::BlockArgs;

constexpr int kTile = 16;  // rows
constexpr int64_t kTileBytes = 64 * kTile;
constexpr int kBlockRows = 2 * kTile;        // Engine::rows
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

// The next tiles of x to A0 and A1, of w to B0 and B1. x that one pass reads goes by the first cache, for the panel to
// stay. One row of x (kA = 0) stands in for the 15 beyond it, which would come from the second cache.
template <int kTiles, int kA, int kB>
LOWBIT_INLINE void load_step(const char* x, const char* w, int64_t tile_stride) {
  if constexpr (kTiles == kB && kA != 0) {
    _tile_stream_loadd(4, x, 64);
  } else {
    _tile_loadd(4, x, kA == 0 ? 0 : 64);
  }
  _tile_loadd(6, w, 64);
  if constexpr (kB == 2) _tile_loadd(7, w + tile_stride, 64);
  if constexpr (kTiles == kB && kA == 2) {
    _tile_stream_loadd(5, x + kTileBytes, 64);
  } else if constexpr (kA == 2) {
    _tile_loadd(5, x + kTileBytes, 64);
  }
}

struct BF16Products {
  static LOWBIT_INLINE void dot00() { _tile_dpbf16ps(0, 4, 6); }
  static LOWBIT_INLINE void dot01() { _tile_dpbf16ps(1, 4, 7); }
  static LOWBIT_INLINE void dot10() { _tile_dpbf16ps(2, 5, 6); }
  static LOWBIT_INLINE void dot11() { _tile_dpbf16ps(3, 5, 7); }
};

// between(i): after the products of C i.
template <class Math, int kA, int kB, class F>
LOWBIT_INLINE void multiply_step(const F& between) {
  Math::dot00();
  between(0);
  if constexpr (kB == 2) {
    Math::dot01();
    between(1);
  }
  if constexpr (kA == 2) {
    Math::dot10();
    between(2);
  }
  if constexpr (kA == 2 && kB == 2) {
    Math::dot11();
    between(3);
  }
}

// The sums of piece p and the 16 rows of w of tile `tile` to y or to carry, for `rows` rows of x from `row`.
template <class Math, int kTiles>
__attribute__((noinline)) void join(const BlockArgs& args, int32_t p, int tile, int row, int rows,
                                    const typename Math::Number* sums) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  const cpu::PieceRun run = a.pieces[p];
  auto* carry = static_cast<typename Math::Number*>(a.carry);
  const int64_t wi = (int64_t{p} * kTiles + tile) * kTile;
  const __m512 scale = run.last ? _mm512_loadu_ps(a.w_scale + wi) : _mm512_setzero_ps();
  // f(sums of 16 rows of w, where they go, index of the row's values)
  const auto each = [&](const auto& f) __attribute__((always_inline)) {
    const int64_t begin = (int64_t{row} * kTiles + tile) * kTile, xi = int64_t{p} * kBlockRows + row;
#pragma GCC unroll 4
    for (int64_t r = 0; r < rows; ++r) f(Math::load(sums + r * kTile), begin + r * kTiles * kTile, xi + r);
  };
  Math::with_start(a, wi, [&](const auto& start) __attribute__((always_inline)) {
    const auto first = [&](auto sum, int64_t, int64_t xi) __attribute__((always_inline)) { return start(sum, xi); };
    const auto resumed = [&](auto sum, int64_t at, int64_t xi) __attribute__((always_inline)) {
      return Math::add(start(sum, xi), Math::load(carry + at));
    };
    const auto to_carry = [&](const auto& whole) __attribute__((always_inline)) {
      each([&](auto sum, int64_t at, int64_t xi)
               __attribute__((always_inline)) { Math::store(carry + at, whole(sum, at, xi)); });
    };
    const auto to_y = [&](const auto& whole) __attribute__((always_inline)) {
      each([&](auto sum, int64_t at, int64_t xi) __attribute__((always_inline)) {
        const __m512 value = Math::to_float(whole(sum, at, xi));
        _mm512_storeu_ps(a.y + at, _mm512_fmadd_ps(value, scale, _mm512_loadu_ps(a.y + at)));
      });
    };
    if (!run.last) {
      run.first ? to_carry(first) : to_carry(resumed);
    } else if (a.x_scale == nullptr && a.w_float_zero == nullptr) {
      run.first ? to_y(first) : to_y(resumed);
    } else {
      each([&](auto sum, int64_t at, int64_t xi) __attribute__((always_inline)) {
        const __m512 value = Math::to_float(run.first ? first(sum, at, xi) : resumed(sum, at, xi));
        const __m512 s = a.x_scale != nullptr ? _mm512_mul_ps(scale, _mm512_set1_ps(a.x_scale[xi])) : scale;
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

// The same for a whole segment whose scales are those of w alone: straight code, which tiles hide.
template <class Math, int kTiles, int kRows>
LOWBIT_INLINE void join_plain(const BlockArgs& a, int32_t p, int tile, int row, const typename Math::Number* sums) {
  const __m512 scale = _mm512_loadu_ps(a.w_scale + (int64_t{p} * kTiles + tile) * kTile);
  float* y = a.y + (row * kTiles + tile) * kTile;
  const int64_t xi = int64_t{p} * kBlockRows + row;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r, y += kTiles * kTile) {
    const __m512 value = Math::to_float(Math::plain_start(a, Math::load(sums + r * kTile), xi + r));
    _mm512_storeu_ps(y, _mm512_fmadd_ps(value, scale, _mm512_loadu_ps(y)));
  }
}

// The sums of a piece join between the products of the piece after the next: by then they are stored, and the vector
// units work while the tiles do.
constexpr int kDelay = 2;

template <class Math, int kTiles, int kA>
void run_panel(int rows, const BlockArgs& args) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  constexpr int kB = kTiles == 1 ? 1 : 2, kSums = kA == 2 ? 4 : 2;
  constexpr int64_t kStepOfX = kA == 2 ? 2 * kTileBytes : kTileBytes;
  alignas(64) typename Math::Number sums[kDelay][kSums][kTile * kTile];
  const bool plain =
      (kA == 0 || rows % kTile == 0) && a.x_scale == nullptr && a.w_float_zero == nullptr && Math::is_plain(a);
  const auto steps_of = [&](int32_t p) { return (a.pieces[p].quads + Math::kStepQuads - 1) / Math::kStepQuads; };
  const int32_t steps = a.tile_quads / Math::kStepQuads;
  const int64_t stride = steps * kTileBytes;
  const int32_t asked = steps > 0 ? (a.ahead.lines + steps - 1) / steps : 0;  // lines a step
  for (int first = 0; first < kTiles; first += kB) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* w = static_cast<const char*>(a.w) + first * stride;
    const char* codes = a.ahead.codes + first * a.ahead.tile_bytes;
    const auto ask = [&]() __attribute__((always_inline)) {
      for (int32_t i = 0; i < asked; ++i, codes += 64) {
        _mm_prefetch(codes, _MM_HINT_T1);
        if constexpr (kB == 2) _mm_prefetch(codes + a.ahead.tile_bytes, _MM_HINT_T1);
      }
    };
    const auto join_tile = [&](int32_t p, int i) __attribute__((always_inline)) {
      const int row = i / 2 * kTile, left = rows - row;
      if (plain && a.pieces[p].first && a.pieces[p].last) {
        return join_plain<Math, kTiles, kA == 0 ? 1 : kTile>(a, p, first + i % 2, row, sums[p % kDelay][i]);
      }
      join<Math, kTiles>(a, p, first + i % 2, row, left < kTile ? left : kTile, sums[p % kDelay][i]);
    };
    load_step<kTiles, kA, kB>(x, w, stride);
    for (int32_t p = 0; p < a.count; ++p) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      ask();
      multiply_step<Math, kA, kB>([&](int i) __attribute__((always_inline)) {
        if (p >= kDelay) join_tile(p - kDelay, i);
      });
      for (int32_t step = steps_of(p); step > 1; --step) {
        x += kStepOfX;
        w += kTileBytes;
        load_step<kTiles, kA, kB>(x, w, stride);
        ask();
        multiply_step<Math, kA, kB>([](int) {});
      }
      x += kStepOfX;
      w += kTileBytes;
      // loads wait for earlier stores to the same place of another page: the next come before the sums go out
      if (p + 1 < a.count) load_step<kTiles, kA, kB>(x, w, stride);
      auto& to = sums[p % kDelay];
      _tile_stored(0, to[0], 64);
      if constexpr (kB == 2) _tile_stored(1, to[1], 64);
      if constexpr (kA == 2) _tile_stored(2, to[2], 64);
      if constexpr (kA == 2 && kB == 2) _tile_stored(3, to[3], 64);
    }
    for (int32_t p = a.count > kDelay ? a.count - kDelay : 0; p < a.count; ++p) {
      for (int i = 0; i < kSums; ++i) {
        if (i % 2 < kB) join_tile(p, i);
      }
    }
  }
}

template <class Math, int kTiles>
void panel_rows(int rows, const BlockArgs& a) {
  if (rows == 1) return run_panel<Math, kTiles, 0>(rows, a);
  rows <= kTile ? run_panel<Math, kTiles, 1>(rows, a) : run_panel<Math, kTiles, 2>(rows, a);
}
template <class Math>
void panel(int tiles, int rows, const BlockArgs& a) {
  switch (tiles) {
    case 1: return panel_rows<Math, 1>(rows, a);
    case 2: return panel_rows<Math, 2>(rows, a);
    default: return panel_rows<Math, 4>(rows, a);
  }
}

}  // namespace
}  // namespace lowbit::amx
