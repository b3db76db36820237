// The bf16 engine on tiles, for activations and weights that are exact in bf16: tdpbf16ps into fp32. For 32 columns it
// adds the products of the even and of the odd numbers of a row apart, each fused and in order, then the two sums to
// one another and to the tile's, with denormals read as zeros and results flushed. The vector engines add in another
// order: tiles serve any number of rows of x, so that the bits do not depend on it.
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 8192 tdpbf16ps, one in 16 cycles; a
// group of g columns adds to its g / 32 products, for 16 x 16 sums, 16 stores of a tile's rows and 16 stores to y.
#include "cpu/avx512/bf16_gemm.h"

#include "cpu/amx/engines.h"
#include "cpu/amx/tile_gemm.h"

namespace lowbit::amx {
namespace {

struct BF16Math : BF16Products {
  using Number = float;
  static constexpr int kStepQuads = 8;

  static LOWBIT_INLINE __m512 load(const float* p) { return _mm512_loadu_ps(p); }
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

void begin() {
  configure_tiles();
  avx512::flush_denormals();
}
void end() {
  avx512::keep_denormals();
  release_tiles();
}

}  // namespace

const cpu::Engine kBF16Engine = {
    128, 8, 128, kBlockRows, kTile, BF16Math::kStepQuads, kResidentBytes, panel<BF16Math>, nullptr, fill, begin, end};

}  // namespace lowbit::amx
