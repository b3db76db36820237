// The loops that the GEMM engines of this folder share: over the quads of a piece when decoding, over the instances of
// a micro-kernel, and the join of float sums. Static, as all of this folder's headers.
#pragma once

#include "cpu/avx512/decode.h"
#include "cpu/avx512/gemm_common.h"

#define LOWBIT_UNROLL _Pragma("GCC unroll 8")

namespace lowbit::avx512 {
namespace {

// put(q, codes) for every quad of the piece, 64 codes each in the order of a tile.
template <int kBits, class Put>
inline void for_quads(const cpu::FillArgs& a, const Put& put) {
  if (a.codes->layout == Layout::kTile16) {
    using Decoder = TileDecoder<kBits>;
    const Decoder decoder;
    const int64_t quads = (a.codes->cols + 3) / 4, tiles = (a.codes->rows + 15) / 16;
    const auto* data = static_cast<const uint8_t*>(a.codes->data);
    const auto* p = data + (a.row / 16 * quads + a.quad) * Decoder::kBytes;
    const auto* end = data + tiles * quads * Decoder::kBytes;
    int32_t q = 0;
    for (; q < a.quads && end - p >= Decoder::kLoad; ++q, p += Decoder::kBytes) put(q, decoder(p, true));
    for (; q < a.quads; ++q, p += Decoder::kBytes) put(q, decoder(p, false));
    return;
  }
  constexpr int32_t kStep = 32;
  alignas(64) uint8_t codes[kStep * 64];
  for (int32_t q = 0; q < a.quads; q += kStep) {
    const int32_t count = a.quads - q < kStep ? a.quads - q : kStep;
    unpack_quads(*a.codes, a.row, a.quad + q, count, codes);
    for (int32_t i = 0; i < count; ++i) put(q + i, _mm512_load_si512(codes + 64 * i));
  }
}

// Fill<bits>::run(args) for the width of the codes.
template <template <int> class Fill>
void fill_by_bits(const cpu::FillArgs& a) {
  switch (a.codes->format->bits) {
    case 1: return Fill<1>::run(a);
    case 2: return Fill<2>::run(a);
    case 3: return Fill<3>::run(a);
    case 4: return Fill<4>::run(a);
    case 5: return Fill<5>::run(a);
    case 6: return Fill<6>::run(a);
    case 7: return Fill<7>::run(a);
    default: return Fill<8>::run(a);
  }
}

// Kernel<tiles, rows>::run(args).
template <template <int, int> class Kernel, int kTiles>
void run_rows(int rows, const cpu::BlockArgs& a) {
  switch (rows) {
    case 1: return Kernel<kTiles, 1>::run(a);
    case 2: return Kernel<kTiles, 2>::run(a);
    case 3: return Kernel<kTiles, 3>::run(a);
    default:
      if constexpr (kTiles < cpu::kMaxTiles) {
        switch (rows) {
          case 4: return Kernel<kTiles, 4>::run(a);
          case 5: return Kernel<kTiles, 5>::run(a);
          default: return Kernel<kTiles, 6>::run(a);
        }
      }
  }
}
template <template <int, int> class Kernel>
void run_kernel(int tiles, int rows, const cpu::BlockArgs& a) {
  switch (tiles) {
    case 1: return run_rows<Kernel, 1>(rows, a);
    case 2: return run_rows<Kernel, 2>(rows, a);
    case 4: return run_rows<Kernel, 4>(rows, a);
    default: return run_rows<Kernel, 8>(rows, a);
  }
}

// y = fma(sum, s, y), then the term of a float zero point.
template <int kTiles>
inline __attribute__((always_inline)) void join_one(const cpu::BlockArgs& a, int32_t p, int r, int t, __m512 sum,
                                                    __m512 scale) {
  const int64_t xi = int64_t{p} * cpu::kRows + r;
  float* y = a.y + (r * kTiles + t) * 16;
  if (a.x_scale != nullptr) scale = _mm512_mul_ps(scale, _mm512_set1_ps(a.x_scale[xi]));
  __m512 v = _mm512_fmadd_ps(sum, scale, _mm512_load_ps(y));
  if (a.w_float_zero != nullptr) {
    const __m512 zero = _mm512_mul_ps(scale, _mm512_loadu_ps(a.w_float_zero + (int64_t{p} * kTiles + t) * 16));
    v = _mm512_fnmadd_ps(_mm512_set1_ps(a.x_float_sum[xi]), zero, v);
  }
  _mm512_store_ps(y, v);
}

// The sums of piece p to carry or y.
template <int kTiles, int kR>
inline __attribute__((always_inline)) void join_floats(const cpu::BlockArgs& a, int32_t p, __m512 (&sum)[kR][kTiles]) {
  const cpu::PieceRun run = a.pieces[p];
  auto* carry = static_cast<float*>(a.carry);
  LOWBIT_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    const __m512 scale = run.last ? _mm512_loadu_ps(a.w_scale + (int64_t{p} * kTiles + t) * 16) : _mm512_setzero_ps();
    LOWBIT_UNROLL
    for (int r = 0; r < kR; ++r) {
      float* c = carry + (r * kTiles + t) * 16;
      if (!run.first) sum[r][t] = _mm512_add_ps(sum[r][t], _mm512_load_ps(c));
      if (run.last) {
        join_one<kTiles>(a, p, r, t, sum[r][t], scale);
      } else {
        _mm512_store_ps(c, sum[r][t]);
      }
    }
  }
}

}  // namespace
}  // namespace lowbit::avx512
