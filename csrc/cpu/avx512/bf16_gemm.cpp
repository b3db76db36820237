// The bf16 engine: weights decoded to bf16 pairs, vdpbf16ps into fp32, for activations and weights that are exact in
// bf16. vdpbf16ps reads denormals as zeros and flushes denormal results; it rounds each of the two products of a pair
// into the sum. Panel: [quad][tile][pair of 2][16 rows], the pairs being columns (0, 2) and (1, 3).
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 32 vdpbf16ps over 2 a cycle (1 on Zen
// 4 and Sapphire Rapids).
#include "cpu/avx512/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

using cpu::BlockArgs;
using cpu::FillArgs;

template <int kTiles, int kR>
struct BF16Kernel {
  static void run(const BlockArgs& a) {
    const auto* x = static_cast<const char*>(a.x);
    const auto* w = static_cast<const char*>(a.w);
    for (int32_t p = 0; p < a.count; ++p) {
      __m512 sum[kR][kTiles];
      LOWBIT_UNROLL
      for (int r = 0; r < kR; ++r) {
        LOWBIT_UNROLL
        for (int t = 0; t < kTiles; ++t) sum[r][t] = _mm512_setzero_ps();
      }
      for (int32_t q = a.pieces[p].quads; q > 0; --q) {
        LOWBIT_UNROLL
        for (int c = 0; c < 2; ++c) {
          __m512i v[kTiles];
          LOWBIT_UNROLL
          for (int t = 0; t < kTiles; ++t) v[t] = _mm512_load_si512(w + 64 * (2 * t + c));
          LOWBIT_UNROLL
          for (int r = 0; r < kR; ++r) {
            int32_t pair;
            std::memcpy(&pair, x + 8 * r + 4 * c, 4);
            const __m512i b = _mm512_set1_epi32(pair);
            LOWBIT_UNROLL
            for (int t = 0; t < kTiles; ++t) {
              sum[r][t] = _mm512_dpbf16_ps(sum[r][t], reinterpret_cast<__m512bh>(v[t]), reinterpret_cast<__m512bh>(b));
            }
          }
        }
        x += 8 * kR;
        w += 128 * kTiles;
      }
      join_floats<kTiles, kR>(a, p, sum);
    }
  }
};

// bf16 of the codes in the low bytes of 32 words.
template <int kBits>
struct WordTable {
  static constexpr int kCount = kBits <= 5 ? 1 : 1 << (kBits - 5);
  __m512i t[kCount];

  explicit WordTable(const uint16_t* table) {
    for (int i = 0; i < kCount; ++i) t[i] = _mm512_loadu_si512(table + 32 * i);
  }
  // `codes`: the high bytes are ignored for 6 bits and less, zero above
  __m512i operator()(__m512i codes) const {
    if constexpr (kBits <= 5) {
      return _mm512_permutexvar_epi16(codes, t[0]);
    } else if constexpr (kBits == 6) {
      return _mm512_permutex2var_epi16(t[0], codes, t[1]);
    } else {
      __m512i v = _mm512_permutex2var_epi16(t[0], codes, t[1]);
      v = _mm512_mask_mov_epi16(v, _mm512_test_epi16_mask(codes, _mm512_set1_epi16(64)),
                                _mm512_permutex2var_epi16(t[2], codes, t[3]));
      if constexpr (kBits == 8) {
        __m512i u = _mm512_permutex2var_epi16(t[4], codes, t[5]);
        u = _mm512_mask_mov_epi16(u, _mm512_test_epi16_mask(codes, _mm512_set1_epi16(64)),
                                  _mm512_permutex2var_epi16(t[6], codes, t[7]));
        v = _mm512_mask_mov_epi16(v, _mm512_test_epi16_mask(codes, _mm512_set1_epi16(128)), u);
      }
      return v;
    }
  }
};

// value - zero of the codes in the low halves of 32-bit lanes (column 0 or 1) and of those in the high halves, as a
// pair. Integers of at most 256: exact.
template <int kBits>
inline __m512i pair_minus(__m512i pair, __m512 zero) {
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  const __m512 a = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)), zero);
  const __m512 b = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_and_si512(pair, high)), zero);
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(a), 16), _mm512_castps_si512(b));
}

template <int kBits>
struct BF16Fill {
  static void run(const FillArgs& a) {
    const WordTable<kBits> table(a.tables->bf16);
    const __m512 zero = a.zero != nullptr ? _mm512_loadu_ps(a.zero) : _mm512_setzero_ps();
    const __m512i low_bytes = _mm512_set1_epi16(255);
    auto* out = static_cast<char*>(a.out);
    for_quads<kBits>(a, [&](int32_t q, __m512i codes) {
      __m512i even = table(kBits > 6 ? _mm512_and_si512(codes, low_bytes) : codes);
      __m512i odd = table(_mm512_srli_epi16(codes, 8));
      if (a.zero != nullptr) even = pair_minus<kBits>(even, zero), odd = pair_minus<kBits>(odd, zero);
      _mm512_store_si512(out + q * a.out_stride, even);
      _mm512_store_si512(out + q * a.out_stride + 64, odd);
    });
  }
};

}  // namespace

const cpu::Engine kBF16Engine = {64, 8, 128, run_kernel<BF16Kernel>, fill_by_bits<BF16Fill>};

}  // namespace lowbit::avx512
