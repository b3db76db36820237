// The int8 engine on tiles: signed bytes of x times unsigned bytes u = value + offset of w, tdpbsud into int32. Exact,
// so that it may stand in for vpdpbusd at any number of rows.
//
// Floors: M N K / 16384 tdpbsud, one in 16 cycles; a group of g columns adds to its g / 64 products, for 16 x 16 sums,
// 16 stores of a tile's rows and 16 stores to y, which no more than one a cycle leave the core.
#include "cpu/amx/engines.h"
#include "cpu/amx/tile_gemm.h"

namespace lowbit::amx {
namespace {

struct Int8Math {
  using Number = int32_t;
  static constexpr int kStepQuads = 16;
  static LOWBIT_INLINE void dot00() { _tile_dpbsud(0, 4, 6); }
  static LOWBIT_INLINE void dot01() { _tile_dpbsud(1, 4, 7); }
  static LOWBIT_INLINE void dot10() { _tile_dpbsud(2, 5, 6); }
  static LOWBIT_INLINE void dot11() { _tile_dpbsud(3, 5, 7); }

  static LOWBIT_INLINE __m512i load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static LOWBIT_INLINE void store(int32_t* p, __m512i v) { _mm512_storeu_si512(p, v); }
  static LOWBIT_INLINE __m512i add(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
  static LOWBIT_INLINE __m512 to_float(__m512i v) { return _mm512_cvtepi32_ps(v); }

  static bool is_plain(const BlockArgs& a) { return a.x_start != nullptr && a.w_sum == nullptr; }
  static LOWBIT_INLINE __m512i plain_start(const BlockArgs& a, __m512i sum, int64_t xi) {
    return add(sum, _mm512_set1_epi32(a.x_start[xi]));
  }
  // Calls f(start), start(sum, xi): what stands for the weights' offset and the zero points, added to a sum.
  template <class F>
  static LOWBIT_INLINE void with_start(const BlockArgs& a, int64_t wi, const F& f) {
    if (is_plain(a)) {
      f([&](__m512i sum, int64_t xi) __attribute__((always_inline)) { return plain_start(a, sum, xi); });
    } else {
      const __m512i zero = a.w_zero != nullptr ? _mm512_loadu_si512(a.w_zero + wi) : _mm512_setzero_si512();
      const __m512i w_sum = a.w_sum != nullptr ? _mm512_loadu_si512(a.w_sum + wi) : _mm512_setzero_si512();
      f([&](__m512i sum, int64_t xi) __attribute__((always_inline)) {
        if (a.x_start != nullptr) sum = add(sum, _mm512_set1_epi32(a.x_start[xi]));
        if (a.w_zero != nullptr) sum = add(sum, _mm512_mullo_epi32(zero, _mm512_set1_epi32(a.x_sum[xi])));
        if (a.w_sum != nullptr) sum = add(sum, _mm512_mullo_epi32(w_sum, _mm512_set1_epi32(a.x_zero[xi])));
        return sum;
      });
    }
  }
};

void fill(const cpu::FillArgs& a) { avx512::kInt8Engine.fill(a); }

}  // namespace

const cpu::Engine kInt8Engine = {128,
                                 4,
                                 64,
                                 kBlockRows,
                                 kTile,
                                 Int8Math::kStepQuads,
                                 kResidentBytes,
                                 panel<Int8Math>,
                                 nullptr,
                                 fill,
                                 configure_tiles,
                                 release_tiles};

}  // namespace lowbit::amx
