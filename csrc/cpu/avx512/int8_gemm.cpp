// The int8-dot engine: weights as unsigned bytes u = value + offset, activations as signed bytes, vpdpbusd into int32.
// Any width of weights becomes bytes by one permute, one bit-matrix transpose and one table permute (decode.h).
//
// Floors: the weight's packed bytes over the memory bandwidth (M small); M N K / 64 vpdpbusd over 2 a cycle (Zen 5,
// Sapphire Rapids; 1 on Zen 4). A decoded tile serves all rows of a chunk, so that decoding, 5 instructions for 64
// weights, weighs 5 / rows; a group of g columns adds 3 instructions to its g / 4 dots.
#include "cpu/avx512/gemm_tiles.h"

namespace lowbit::avx512 {
namespace {

struct Int8Math {
  static constexpr int kOperands = 1;
  static constexpr bool kValueZeros = false;
  static constexpr int word(int operand) { return operand; }
  using Sum = __m512i;

  template <int kBits>
  struct Numbers {
    ByteTable<kBits> table;
    __m512i flip;
    bool flipped;  // u = code ^ flip: integers of 8 bits

    Numbers(const ElementFormat& f, const cpu::CodeTables& t)
        : table(t.u8), flip(_mm512_set1_epi8(static_cast<char>(t.u8[0]))), flipped(kBits == 8 && f.is_int()) {}
    LOWBIT_INLINE void operator()(__m512i codes, __m512i (&out)[1]) const {
      out[0] = flipped ? _mm512_xor_si512(codes, flip) : table(codes);
    }
    LOWBIT_INLINE void operator()(__m512i codes, const float*, __m512i (&out)[1]) const { (*this)(codes, out); }
  };

  // What stands for the weights' offset and the zero points.
  template <class B>
  static LOWBIT_INLINE void start(const BlockArgs& a, int32_t p, B& b) {
    if (a.x_start != nullptr) {
      B::each(p, [&](int r, int t, int64_t, int64_t xi) { b.sum[r][t] = _mm512_set1_epi32(a.x_start[xi]); });
    } else if (a.w_zero != nullptr) {
      B::each(p, [&](int r, int t, int64_t wi, int64_t xi) {
        b.sum[r][t] = _mm512_mullo_epi32(_mm512_loadu_si512(a.w_zero + wi), _mm512_set1_epi32(a.x_sum[xi]));
      });
    } else {
      B::each(p, [&](int r, int t, int64_t, int64_t) { b.sum[r][t] = _mm512_setzero_si512(); });
    }
    if (a.w_sum != nullptr) {
      B::each(p, [&](int r, int t, int64_t wi, int64_t xi) {
        const __m512i w_sum = _mm512_loadu_si512(a.w_sum + wi);
        b.sum[r][t] = _mm512_add_epi32(b.sum[r][t], _mm512_mullo_epi32(w_sum, _mm512_set1_epi32(a.x_zero[xi])));
      });
    }
  }
  static LOWBIT_INLINE Sum dot(Sum sum, __m512i w, __m512i x) { return _mm512_dpbusd_epi32(sum, w, x); }
  static LOWBIT_INLINE Sum add(Sum sum, const char* carry) { return _mm512_add_epi32(sum, _mm512_load_si512(carry)); }
  static LOWBIT_INLINE void store(Sum sum, char* carry) { _mm512_store_si512(carry, sum); }
  static LOWBIT_INLINE __m512 to_float(Sum sum) { return _mm512_cvtepi32_ps(sum); }
};

}  // namespace

const cpu::Engine kInt8Engine = engine<Int8Math>(256);

}  // namespace lowbit::avx512
