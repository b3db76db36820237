// The fp32 engine: weights decoded to fp32, FMA with broadcast activations, for activations or formats that are not
// exact in bf16. Panel: [quad][tile][column of 4][16 rows].
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 16 FMA over 2 a cycle.
#include "cpu/avx512/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

using cpu::BlockArgs;
using cpu::FillArgs;

template <int kTiles, int kR>
struct F32Kernel {
  static void run(const BlockArgs& a) {
    const auto* x = static_cast<const float*>(a.x);
    const auto* w = static_cast<const float*>(a.w);
    for (int32_t p = 0; p < a.count; ++p) {
      __m512 sum[kR][kTiles];
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) {
        LOWBIT_UNROLL
        for (int t = 0; t < kTiles; ++t) sum[r][t] = _mm512_setzero_ps();
      }
      for (int32_t q = a.pieces[p].quads; q > 0; --q) {
        LOWBIT_UNROLL
        for (int c = 0; c < 4; ++c) {
          __m512 v[kTiles];
          LOWBIT_UNROLL
          for (int t = 0; t < kTiles; ++t) v[t] = _mm512_load_ps(w + 16 * (4 * t + c));
          LOWBIT_UNROLL
          for (int r = 0; r < kR; ++r) {
            const __m512 b = _mm512_set1_ps(x[4 * r + c]);
            LOWBIT_UNROLL
            for (int t = 0; t < kTiles; ++t) sum[r][t] = _mm512_fmadd_ps(v[t], b, sum[r][t]);
          }
        }
        x += 4 * kR;
        w += 64 * kTiles;
      }
      join_floats<kTiles, kR>(a, p, sum);
    }
  }
};

template <int kBits>
struct F32Fill {
  static void run(const FillArgs& a) {
    const float* table = a.tables->f32;
    const __m512 low = _mm512_loadu_ps(table), high = _mm512_loadu_ps(table + 16);
    const ElementFormat& f = *a.codes->format;
    const bool integer = f.is_int(), bipolar = f.rule == kBipolar;
    const bool is_signed = integer && !bipolar && f.rule != kUnsigned;
    const __m512 zero = a.zero != nullptr ? _mm512_loadu_ps(a.zero) : _mm512_setzero_ps();
    auto* out = static_cast<char*>(a.out);
    for_quads<kBits>(a, [&](int32_t q, __m512i codes) {
      auto* to = reinterpret_cast<float*>(out + q * a.out_stride);
      LOWBIT_UNROLL
      for (int c = 0; c < 4; ++c) {
        __m512 v;
        const __m512i code = _mm512_srli_epi32(codes, static_cast<unsigned>(8 * c));
        if constexpr (kBits <= 4) {
          v = _mm512_permutexvar_ps(code, low);
        } else if constexpr (kBits == 5) {
          v = _mm512_permutex2var_ps(low, code, high);
        } else if (integer) {
          const __m512i top = _mm512_slli_epi32(code, 32 - kBits);
          v = _mm512_cvtepi32_ps(is_signed ? _mm512_srai_epi32(top, 32 - kBits) : _mm512_srli_epi32(top, 32 - kBits));
          if (bipolar) v = _mm512_fmadd_ps(v, _mm512_set1_ps(2.0f), _mm512_set1_ps(table[0]));
        } else {
          v = _mm512_i32gather_ps(_mm512_and_si512(code, _mm512_set1_epi32(255)), table, 4);
        }
        if (a.zero != nullptr) v = _mm512_sub_ps(v, zero);
        _mm512_store_ps(to + 16 * c, v);
      }
    });
  }
};

}  // namespace

const cpu::Engine kF32Engine = {64, 16, 256, run_kernel<F32Kernel>, fill_by_bits<F32Fill>};

}  // namespace lowbit::avx512
