// Operands whose scales are powers of two, on tiles of bf16 that hold the scaled values: a tile of sums is y, and no
// segment's sum leaves it (cpu/gemm_powers.h says why the bits are those of a join).
//
// Floors: M N K / 8192 tdpbf16ps, one in 16 cycles; the decoding of w, once for every kBytesOfX of x. Measured on
// Sapphire Rapids (M 512, N and K 4096, one thread): mxfp4 pairs 22 ms, of which the products take 12 where the first
// floor is 5: each reads 1 KiB of x or w, and x comes from the second cache. Decoding takes 3 ms, and what is left
// packing and quantizing of x and the output.
#include "cpu/amx/engines.h"
#include "cpu/amx/tile_gemm.h"
#include "cpu/avx512/bf16_gemm.h"

namespace lowbit::amx {
namespace {

constexpr int32_t kPanelQuads = 128;
constexpr int32_t kUnit = 8;  // quads of a segment, whatever its columns are
// Beside them a second cache of 2 MiB holds the panel and y.
constexpr int32_t kBytesOfX = 3 << 19;

// kA tiles of rows of x times kB tiles of w from `tile`; rows of y are kTiles * 16 floats apart. `last`: the last 16.
template <int kTiles, int kA, int kB>
LOWBIT_INLINE void add_products(const BlockArgs& a, int tile, float* y, float* last) {
  constexpr int64_t kRow = 4 * kTiles * kTile;
  const int64_t tile_stride = int64_t{a.tile_quads} * 128;
  y += tile * kTile, last += tile * kTile;
  float* const first = kA == 2 ? y : last;
  _tile_loadd(0, first, kRow);
  if constexpr (kB == 2) _tile_loadd(1, first + kTile, kRow);
  if constexpr (kA == 2) _tile_loadd(2, last, kRow);
  if constexpr (kA == 2 && kB == 2) _tile_loadd(3, last + kTile, kRow);
  const auto* x = static_cast<const char*>(a.x);
  const auto* w = static_cast<const char*>(a.w) + tile * tile_stride;
  for (int32_t p = 0; p < a.count; ++p, x += kA * kTileBytes, w += kTileBytes) {
    load_step<kTiles, kA, kB>(x, w, tile_stride);
    multiply_step<BF16Products, kA, kB>([](int) __attribute__((always_inline)) {});
  }
  _tile_stored(0, first, kRow);
  if constexpr (kB == 2) _tile_stored(1, first + kTile, kRow);
  if constexpr (kA == 2) _tile_stored(2, last, kRow);
  if constexpr (kA == 2 && kB == 2) _tile_stored(3, last + kTile, kRow);
}

template <int kTiles, int kA>
void run_rows(int rows, const BlockArgs& a) {
  constexpr int kB = kTiles == 1 ? 1 : 2, kRow = kTiles * kTile;
  const int left = rows - (kA - 1) * kTile;
  float* const y = a.y + (kA - 1) * kTile * kRow;
  // what a tile holds beyond the rows of x goes nowhere
  alignas(64) float part[kTile * kRow];
  const auto bytes = static_cast<size_t>(left) * kRow * sizeof(float);
  if (left < kTile) {
    std::memset(part, 0, sizeof(part));
    std::memcpy(part, y, bytes);
  }
  for (int tile = 0; tile < kTiles; tile += kB) {
    add_products<kTiles, kA, kB>(a, tile, a.y, left < kTile ? part : y);
  }
  if (left < kTile) std::memcpy(y, part, bytes);
}

template <int kTiles>
void tiles_of(int rows, const BlockArgs& a) {
  rows <= kTile ? run_rows<kTiles, 1>(rows, a) : run_rows<kTiles, 2>(rows, a);
}
void panel(int tiles, int rows, const BlockArgs& a) {
  tiles == 1 ? tiles_of<1>(rows, a) : tiles_of<2>(rows, a);  // more of kPanelQuads are too large for a panel
}

// Multiplies 16 rows of pairs by 2^e: added to the exponents of all but zeros, infinities and NaN, which stay.
template <bool kAllFinite>
struct Scaler {
  __m512i step;
  LOWBIT_INLINE explicit Scaler(__m512i e) {
    const __m512i low = _mm512_slli_epi32(e, 23);
    step = _mm512_or_si512(low, _mm512_srli_epi32(low, 16));
  }
  LOWBIT_INLINE __m512i operator()(__m512i pairs) const {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    if constexpr (kAllFinite) {
      return _mm512_mask_add_epi16(pairs, _mm512_test_epi16_mask(pairs, magnitude), pairs, step);
    }
    const __m512i less = _mm512_sub_epi16(_mm512_and_si512(pairs, magnitude), _mm512_set1_epi16(1));
    return _mm512_mask_add_epi16(pairs, _mm512_cmplt_epu16_mask(less, _mm512_set1_epi16(0x7f7f)), pairs, step);
  }
};

// Whether any pair of those rows is not zero.
bool any_value(const char* panel, int32_t quads, int64_t stride, __mmask16 rows) {
  __m512i any = _mm512_setzero_si512();
  for (int32_t q = 0; q < quads; ++q) {
    any = _mm512_or_si512(any, _mm512_loadu_si512(panel + q * stride));
    any = _mm512_or_si512(any, _mm512_loadu_si512(panel + q * stride + 64));
  }
  return _mm512_mask_test_epi32_mask(rows, any, _mm512_set1_epi32(0x7fff7fff)) != 0;
}

template <bool kAllFinite>
void scale_panel(const cpu::FillArgs& a) {
  const int64_t rows = a.codes->rows - a.row;
  const auto there = static_cast<__mmask16>(rows >= kTile ? 0xffff : (1u << rows) - 1u);
  auto* panel = static_cast<char*>(a.out);
  const float* scale = a.scale;
  for (int32_t q = 0; q < a.quads; q += kUnit, scale += a.scale_stride) {
    const int32_t quads = a.quads - q < kUnit ? a.quads - q : kUnit;
    const __m512i e = _mm512_sub_epi32(_mm512_srli_epi32(_mm512_loadu_si512(scale), 23), _mm512_set1_epi32(127));
    const __mmask16 above = _mm512_mask_cmpgt_epi32_mask(there, e, _mm512_set1_epi32(a.window.most));
    const __mmask16 below = _mm512_mask_cmplt_epi32_mask(there, e, _mm512_set1_epi32(a.window.least));
    // zeros are zeros under every scale but those whose product with x's may be infinite
    if (above != 0 || (below != 0 && any_value(panel, quads, a.out_stride, below))) *a.misfit = true;
    const Scaler<kAllFinite> scaled(e);
    for (int32_t i = 0; i < quads; ++i, panel += a.out_stride) {
      for (int part = 0; part < 128; part += 64) {
        _mm512_storeu_si512(panel + part, scaled(_mm512_loadu_si512(panel + part)));
      }
    }
  }
}

void fill(const cpu::FillArgs& a) {
  avx512::kBF16Engine.fill(a);
  a.codes->format->specials == kFinite ? scale_panel<true>(a) : scale_panel<false>(a);
}

void begin_floats() {
  configure_tiles();
  avx512::flush_denormals();
}
void end_floats() {
  avx512::keep_denormals();
  release_tiles();
}

constexpr cpu::Engine engine(void (*begin)(), void (*end)()) {
  return {kPanelQuads, 8, 128, kBlockRows, kTile, kUnit, kBytesOfX, panel, nullptr, fill, begin, end};
}

}  // namespace

const cpu::Engine kScaledEngines[2] = {engine(configure_tiles, release_tiles), engine(begin_floats, end_floats)};

}  // namespace lowbit::amx
