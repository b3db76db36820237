// Segments of at most 16 or 32 columns whose scales are any numbers, on tiles of bf16: a segment's sum leaves the tiles
// after one tdpbf16ps. Of integers the products and their sums are exact in fp32, which saves the joins a conversion;
// of floats they are those of kBF16Engine. y stays in registers through a K block, and products run ahead of the joins.
//
// Floors, for 16 x 16 sums: 16 cycles of tdpbf16ps; 32 vector instructions of the join over two ports; 16 stores of the
// tile's rows; 57 loads (65 of 32 columns), two a cycle. A loop of nothing else that reads the first cache takes 58
// (75) cycles on Sapphire Rapids, and 20 % more where x of 32 columns comes from the second; the stores, the loads and
// the vector instructions add up where they should overlap. In products of 512 rows a quarter of the time is not the
// loop's.
#include "cpu/amx/engines.h"
#include "cpu/amx/tile_gemm.h"
#include "cpu/avx512/bf16_gemm.h"

namespace lowbit::amx {
namespace {

constexpr int32_t kPanelQuads = 64;
// Pieces between the products of a segment and their join: until then they are on their way to the first cache.
constexpr int32_t kJoinDelay = 3;
constexpr int kBuffers = kJoinDelay + 1;
// Beyond the second cache: x is asked for ahead, and a row of w is decoded the less often.
constexpr int32_t kBytesOfX = 4 << 20;

// Tiles of x and of w hold kUnit quads of bf16: 16 rows of x, pairs of columns of 16 rows of w.
template <int kUnit>
struct SegmentTiles : TileConfiguration {
  constexpr SegmentTiles() {
    for (int i = 4; i < 6; ++i) row_bytes[i] = 8 * kUnit;
    for (int i = 6; i < 8; ++i) rows[i] = 2 * kUnit;
  }
};
template <int kUnit>
constexpr SegmentTiles<kUnit> kSegmentTiles;

template <int kUnit>
void configure() {
  _tile_loadconfig(&kSegmentTiles<kUnit>);
}
template <int kUnit>
void configure_floats() {
  configure<kUnit>();
  avx512::flush_denormals();
}
void release_floats() {
  avx512::keep_denormals();
  release_tiles();
}

// y of 16 rows of x and 16 of w: in registers, or of fewer rows in memory.
template <int kTiles>
struct RowsInRegisters {
  __m512 sum[kTile];

  LOWBIT_INLINE RowsInRegisters(const float* y, int) {
#pragma GCC unroll 16
    for (int r = 0; r < kTile; ++r) sum[r] = _mm512_loadu_ps(y + r * kTiles * kTile);
  }
  template <class F>
  LOWBIT_INLINE void each(const F& f) {
#pragma GCC unroll 16
    for (int r = 0; r < kTile; ++r) sum[r] = f(r, sum[r]);
  }
  LOWBIT_INLINE void store(float* y) const {
#pragma GCC unroll 16
    for (int r = 0; r < kTile; ++r) _mm512_storeu_ps(y + r * kTiles * kTile, sum[r]);
  }
};
template <int kTiles>
struct RowsInMemory {
  float* y;
  int rows;

  LOWBIT_INLINE RowsInMemory(float* to, int count) : y(to), rows(count) {}
  template <class F>
  LOWBIT_INLINE void each(const F& f) {
    for (int r = 0; r < rows; ++r) {
      float* to = y + r * kTiles * kTile;
      _mm512_storeu_ps(to, f(r, _mm512_loadu_ps(to)));
    }
  }
  LOWBIT_INLINE void store(float*) const {}
};

template <int kUnit, int kTiles, bool kScaled, class Rows>
void run_segments(int rows, const BlockArgs& args) {
  const BlockArgs a = args;  // a copy of its own, which stores to y cannot be thought to change
  constexpr int64_t kTileOfX = kTile * 8 * kUnit, kTileOfW = 128 * kUnit;
  alignas(64) float sums[kBuffers][kTile * kTile];
  const auto* w = static_cast<const char*>(a.w);
  const char* x = static_cast<const char*>(a.x);
  int32_t piece = 0, left = kTiles * a.count;  // of the next products, and how many they are
  const auto multiply = [&](int buffer) __attribute__((always_inline)) {
    if (left == 0) return;
    _tile_loadd(4, x, 8 * kUnit);
    _tile_loadd(6, w, 64);
    _tile_zero(0);
    _tile_dpbf16ps(0, 4, 6);
    _tile_stored(0, sums[buffer % kBuffers], 64);
    x += kTileOfX;
    w += kTileOfW;
    --left;
    if (++piece == a.count) piece = 0, x = static_cast<const char*>(a.x);
  };
  int buffer = 0;  // of the next join
  for (int i = 0; i < kJoinDelay; ++i) multiply(i);
  for (int tile = 0; tile < kTiles; ++tile) {
    Rows y(a.y + tile * kTile, rows);
    const float* scales = a.w_scale + tile * kTile;
    const float* of_x = a.x_scale;
    for (int32_t p = 0; p < a.count; ++p, ++buffer, scales += kTiles * kTile) {
      multiply(buffer + kJoinDelay);
      if (tile + 1 == kTiles) {  // the rows of the next block, which follow these, to the first cache
        const char* next = static_cast<const char*>(a.x) + (a.count + p) * kTileOfX;
#pragma GCC unroll 16
        for (int64_t at = 0; at < kTileOfX; at += 64) _mm_prefetch(next + at, _MM_HINT_T0);
      }
      const float* sum = sums[buffer % kBuffers];
      const __m512 scale = _mm512_loadu_ps(scales);
      y.each([&](int r, __m512 to) __attribute__((always_inline)) {
        const __m512 s = kScaled ? _mm512_mul_ps(scale, _mm512_set1_ps(of_x[r])) : scale;
        return _mm512_fmadd_ps(_mm512_load_ps(sum + r * kTile), s, to);
      });
      if (kScaled) of_x += kTile;
    }
    y.store(a.y + tile * kTile);
  }
}

template <int kUnit, int kTiles, bool kScaled>
void segment_rows(int rows, const BlockArgs& a) {
  rows == kTile ? run_segments<kUnit, kTiles, kScaled, RowsInRegisters<kTiles>>(rows, a)
                : run_segments<kUnit, kTiles, kScaled, RowsInMemory<kTiles>>(rows, a);
}
template <int kUnit, int kTiles>
void segment_scales(int rows, const BlockArgs& a) {
  a.x_scale != nullptr ? segment_rows<kUnit, kTiles, true>(rows, a) : segment_rows<kUnit, kTiles, false>(rows, a);
}
template <int kUnit>
void segments(int tiles, int rows, const BlockArgs& a) {
  switch (tiles) {
    case 1: return segment_scales<kUnit, 1>(rows, a);
    case 2: return segment_scales<kUnit, 2>(rows, a);
    default: return segment_scales<kUnit, 4>(rows, a);
  }
}

void fill(const cpu::FillArgs& a) { avx512::kBF16Engine.fill(a); }

template <int kUnit>
constexpr cpu::Engine engine(void (*begin)(), void (*end)()) {
  return {kPanelQuads, 8, 128, kTile, kTile, kUnit, kBytesOfX, segments<kUnit>, nullptr, fill, begin, end};
}

}  // namespace

const cpu::Engine kIntegerSegmentEngines[2] = {engine<4>(configure<4>, release_tiles),
                                               engine<8>(configure<8>, release_tiles)};
const cpu::Engine kFloatSegmentEngines[2] = {engine<4>(configure_floats<4>, release_floats),
                                             engine<8>(configure_floats<8>, release_floats)};

}  // namespace lowbit::amx
