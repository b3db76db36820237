// The bf16 engines on tiles: tdpbf16ps into fp32. For 32 columns it adds the products of the even and of the odd
// numbers of a row apart, each fused and in order, then the two sums to one another and to the tile's, with denormals
// read as zeros and results flushed. The vector engines add in another order: tiles serve any number of rows of x, so
// that the bits do not depend on it.
//
// Numbers that bf16 does not hold come as exact sums of bf16 numbers of their sign. x in fp16 is two, which meet w in
// rows of their own and are added after the piece's products; a value of a table is three, whose products with x are
// added to its sum one after another, 32 columns at a time. No term of a number is zero but for zeros: an infinity
// times such a term would be NaN.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 8192 tdpbf16ps for each pair of terms,
// one in 16 cycles; a group of g columns adds to its g / 32 products, for 16 x 16 sums, 16 stores of a tile's rows and
// 16 stores to y.
#include "cpu/avx512/bf16_gemm.h"

#include "cpu/amx/engines.h"
#include "cpu/amx/tile_gemm.h"

namespace lowbit::amx {
namespace {

template <int kTermsOfX, int kTermsOfW>
struct BF16Math {
  using Number = float;
  static constexpr int kStepQuads = 8, kXTerms = kTermsOfX, kWTerms = kTermsOfW;
  static LOWBIT_INLINE void dot00() { _tile_dpbf16ps(0, 4, 6); }
  static LOWBIT_INLINE void dot01() { _tile_dpbf16ps(1, 4, 7); }
  static LOWBIT_INLINE void dot10() { _tile_dpbf16ps(2, 5, 6); }
  static LOWBIT_INLINE void dot11() { _tile_dpbf16ps(3, 5, 7); }

  static LOWBIT_INLINE __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static LOWBIT_INLINE __m512 row(const float* sums, int64_t r) {
    if constexpr (kXTerms == 1) return load(sums + r * kTile);
    return add(load(sums + 2 * r * kTile), load(sums + (2 * r + 1) * kTile));
  }
  static LOWBIT_INLINE void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
  static LOWBIT_INLINE __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static LOWBIT_INLINE __m512 to_float(__m512 v) { return v; }

  static bool is_plain(const BlockArgs&) { return true; }
  static LOWBIT_INLINE __m512 plain_start(const BlockArgs&, __m512 sum, int64_t) { return sum; }
  template <class F>
  static LOWBIT_INLINE void with_start(const BlockArgs&, int64_t, const F& f) {
    f([](__m512 sum, int64_t) __attribute__((always_inline)) { return sum; });
  }
};

void fill(const cpu::FillArgs& a) { avx512::kBF16Engine.fill(a); }

// The first 8 bits of a number of at most 16, and the rest; where that is nothing, or NaN beside an infinity, two
// halves.
void split(const float* in, int64_t n, uint16_t* out) {
  const __m512i top = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  for (int64_t i = 0; i < n; i += kTile) {
    const auto lanes = static_cast<__mmask16>(n - i >= kTile ? 0xffff : 0xffff >> (kTile - (n - i)));
    const __m512 v = _mm512_maskz_loadu_ps(lanes, in + i);
    const __m512 first = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), top));
    const __m512 rest = _mm512_sub_ps(v, first);
    const __mmask16 whole = _mm512_cmp_ps_mask(_mm512_abs_ps(rest), _mm512_setzero_ps(), _CMP_NGT_UQ);
    const __m512 half = _mm512_mul_ps(v, _mm512_set1_ps(0.5f));
    const auto put = [&](uint16_t* to, __m512 part) {
      const __m512i bits = _mm512_srli_epi32(_mm512_castps_si512(_mm512_mask_mov_ps(part, whole, half)), 16);
      _mm512_mask_cvtepi32_storeu_epi16(to + i, lanes, bits);
    };
    put(out, first);
    put(out + n, rest);
  }
}

void begin() {
  configure_tiles();
  avx512::flush_denormals();
}
void end() {
  avx512::keep_denormals();
  release_tiles();
}

// An engine whose panels hold `quads` quads.
template <int kXTerms, int kWTerms>
constexpr cpu::Engine engine(int32_t quads, void (*fill)(const cpu::FillArgs&)) {
  using Math = BF16Math<kXTerms, kWTerms>;
  cpu::Engine e = {quads,
                   8 * kXTerms,
                   128 * kWTerms,
                   kBlockRows<Math>,
                   kRowsOfTile<Math>,
                   Math::kStepQuads,
                   kResidentBytes,
                   panel<Math>,
                   nullptr,
                   fill,
                   begin,
                   end};
  e.x_terms = kXTerms;
  e.split = split;
  return e;
}

}  // namespace

const cpu::Engine kBF16Engine = engine<1, 1>(128, fill);
const cpu::Engine kXTermsEngine = engine<2, 1>(128, fill);
const cpu::Engine kWTermsEngine = engine<1, 3>(32, avx512::fill_bf16_terms);
const cpu::Engine kTermsEngine = engine<2, 3>(32, avx512::fill_bf16_terms);

}  // namespace lowbit::amx
