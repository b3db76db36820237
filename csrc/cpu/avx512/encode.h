// Sixteen floats to codes: encode (formats/codec.h) and encode_stochastic (ref/stochastic_round.h), bit for bit.
//
// An encoder has
//   nearest(y)           the codes of y as 32-bit integers; bits above the format's are of no use, but of signed
//                        integers they are the sign
//   stochastic(y, bits)  the same, rounded by 16 random bits an element
//   value(codes)         what these codes stand for
// "magnitude" below: with w = trunc(|y|) and r = |y| - w, both exact, y goes outward from w where its bits are below
// p = r * 2^16 rounded to even, or for negative y at or above 2^16 - p: the header's rule for either sign, since 2^16
// is even and so p of 1 - r is 2^16 - p of r.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "formats/format.h"

namespace lowbit::avx512 {
namespace {

inline __m512 abs_ps(__m512 v) { return _mm512_abs_ps(v); }
inline __m512 trunc_ps(__m512 v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
inline __m512i nearest_int(__m512 v) {
  return _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline __mmask16 is_negative(__m512 v) { return _mm512_movepi32_mask(_mm512_castps_si512(v)); }

// Which lanes go outward.
inline __mmask16 outward(__m512i p, __m512i bits, __mmask16 negative) {
  const __mmask16 from_zero = _mm512_mask_cmplt_epi32_mask(static_cast<__mmask16>(~negative), bits, p);
  return from_zero | _mm512_mask_cmpge_epi32_mask(negative, bits, _mm512_sub_epi32(_mm512_set1_epi32(0x10000), p));
}
inline __m512i negate(__m512i v, __mmask16 where) { return _mm512_mask_sub_epi32(v, where, _mm512_setzero_si512(), v); }
inline __m512i add_one(__m512i v, __mmask16 where) { return _mm512_mask_add_epi32(v, where, v, _mm512_set1_epi32(1)); }

// Signed, unsigned and ternary integers.
struct IntEncoder {
  __m512 low, high;

  explicit IntEncoder(const ElementFormat& f) {
    const int top = f.rule == kTernary ? 1 : f.rule == kSigned ? (1 << (f.bits - 1)) - 1 : (1 << f.bits) - 1;
    const int bottom = f.rule == kUnsigned ? 0 : f.rule == kTernary ? -1 : -top - 1;
    high = _mm512_set1_ps(static_cast<float>(top));
    low = _mm512_set1_ps(static_cast<float>(bottom));
  }
  // This order of operands keeps a NaN, which becomes the code of zero.
  __m512 clamp(__m512 y) const { return _mm512_min_ps(high, _mm512_max_ps(low, y)); }
  __m512 value(__m512i codes) const { return _mm512_cvtepi32_ps(codes); }
  __m512i nearest(__m512 y) const { return nearest_int(clamp(y)); }
  __m512i stochastic(__m512 y, __m512i bits) const {
    y = clamp(y);
    const __m512 a = abs_ps(y), w = trunc_ps(a);
    const __m512i p = nearest_int(_mm512_mul_ps(_mm512_sub_ps(a, w), _mm512_set1_ps(65536.0f)));
    const __mmask16 negative = is_negative(y);
    return negate(add_one(_mm512_cvttps_epi32(w), outward(p, bits, negative)), negative);
  }
};

// Bipolar integers: the odd numbers from -top to top, code (v + top) / 2.
struct BipolarEncoder {
  __m512 top;
  __m512i top_int;

  explicit BipolarEncoder(const ElementFormat& f)
      : top(_mm512_set1_ps(static_cast<float>((1 << f.bits) - 1))), top_int(_mm512_set1_epi32((1 << f.bits) - 1)) {}
  __m512 clamp(__m512 y) const { return _mm512_min_ps(_mm512_max_ps(y, _mm512_sub_ps(_mm512_setzero_ps(), top)), top); }
  __m512i code(__m512i v) const { return _mm512_srli_epi32(_mm512_add_epi32(v, top_int), 1); }
  __m512 value(__m512i codes) const {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_add_epi32(codes, codes), top_int));
  }

  __m512i nearest(__m512 y) const {
    y = clamp(y);
    const __m512 down = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __m512i floor = _mm512_cvttps_epi32(down);
    const __mmask16 even = _mm512_testn_epi32_mask(floor, _mm512_set1_epi32(1));
    const __mmask16 tie = _mm512_mask_cmp_ps_mask(even, down, y, _CMP_EQ_OQ);
    const __m512i c = code(add_one(floor, even));
    return _mm512_mask_and_epi32(c, tie, c, _mm512_set1_epi32(~1));
  }
  // The odd number below the magnitude is w, or w - 1 where w is even (-1 at 0), and the distance counts half steps.
  __m512i stochastic(__m512 y, __m512i bits) const {
    y = clamp(y);
    const __m512 a = abs_ps(y), w = trunc_ps(a);
    const __m512i whole = _mm512_cvttps_epi32(w);
    const __mmask16 even = _mm512_testn_epi32_mask(whole, _mm512_set1_epi32(1));
    __m512i p = nearest_int(_mm512_mul_ps(_mm512_sub_ps(a, w), _mm512_set1_ps(32768.0f)));
    p = _mm512_mask_add_epi32(p, even, p, _mm512_set1_epi32(32768));
    const __mmask16 negative = is_negative(y), out = outward(p, bits, negative);
    __m512i v = _mm512_mask_sub_epi32(whole, even, whole, _mm512_set1_epi32(1));
    v = _mm512_mask_add_epi32(v, out, v, _mm512_set1_epi32(2));
    return code(negate(v, negative));
  }
};

// Signed minifloats, and the 16-bit floats. Normal values are cut out of the bits of the float32; below the least
// normal one a sum with 2^23 quanta (nearest) or a product with their inverse (stochastic) counts the quanta.
struct FloatEncoder {
  int mantissa, shift, rebias, sign_shift;
  bool infinite, nan, same_exponent;
  __m512 largest, least_normal, magic, quantum, quanta;  // quanta = 1 / quantum
  __m512i infinity_code, nan_code;

  explicit FloatEncoder(const ElementFormat& f)
      : mantissa(f.mantissa),
        shift(23 - f.mantissa),
        rebias((127 - f.bias) << f.mantissa),
        sign_shift(32 - f.bits),
        infinite(f.specials == kIeee),
        nan(f.specials != kFinite),
        same_exponent(f.bias == 127) {
    const int magnitude_bits = f.exponent + f.mantissa;
    const int last = f.specials == kNanOnly ? (1 << magnitude_bits) - 2
                     : f.specials == kIeee  ? (((1 << f.exponent) - 1) << f.mantissa) - 1
                                            : (1 << magnitude_bits) - 1;
    largest = bits(_mm512_set1_epi32((last + rebias) << shift));
    least_normal = power(1 - f.bias);
    quantum = same_exponent ? _mm512_setzero_ps() : power(1 - f.bias - f.mantissa);
    magic = power(24 - f.bias - f.mantissa);
    quanta = same_exponent ? _mm512_setzero_ps() : power(f.bias + f.mantissa - 1);
    infinity_code = _mm512_set1_epi32(last + 1);
    nan_code = _mm512_set1_epi32((1 << magnitude_bits) - 1);
  }
  static __m512 bits(__m512i v) { return _mm512_castsi512_ps(v); }
  static __m512 power(int e) { return bits(_mm512_set1_epi32((e + 127) << 23)); }

  // Of formats whose bias is not that of float32.
  __m512 value(__m512i codes) const {
    const __m512i sign =
        _mm512_sll_epi32(_mm512_srl_epi32(codes, _mm_cvtsi32_si128(31 - sign_shift)), _mm_cvtsi32_si128(31));
    const __m512i magnitude = _mm512_and_si512(codes, nan_code);
    const __m512i normal =
        _mm512_sll_epi32(_mm512_add_epi32(magnitude, _mm512_set1_epi32(rebias)), _mm_cvtsi32_si128(shift));
    const __m512 small = _mm512_mul_ps(_mm512_cvtepi32_ps(magnitude), quantum);
    const __mmask16 below = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(1 << mantissa));
    __m512i v = _mm512_mask_mov_epi32(normal, below, _mm512_castps_si512(small));
    if (nan) v = _mm512_mask_mov_epi32(v, _mm512_cmpeq_epi32_mask(magnitude, nan_code), _mm512_set1_epi32(0x7fc00000));
    if (infinite) {
      v = _mm512_mask_mov_epi32(v, _mm512_cmpeq_epi32_mask(magnitude, infinity_code), _mm512_set1_epi32(0x7f800000));
    }
    return bits(_mm512_or_si512(v, sign));
  }

  // Puts the sign and the special values of y on magnitude codes.
  __m512i finish(__m512i code, __m512 y) const {
    const __m512i raw = _mm512_castps_si512(y);
    if (infinite) {
      const __mmask16 inf = _mm512_fpclass_ps_mask(y, 0x18);
      code = _mm512_mask_mov_epi32(code, inf, infinity_code);
    }
    code =
        _mm512_or_si512(code, _mm512_srl_epi32(_mm512_and_si512(raw, _mm512_set1_epi32(static_cast<int>(0x80000000u))),
                                               _mm_cvtsi32_si128(sign_shift)));
    const __mmask16 no_number = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(code, no_number, nan ? nan_code : _mm512_setzero_si512());
  }
  __m512i nearest(__m512 y) const {
    const __m512 a = _mm512_min_ps(abs_ps(y), largest);
    const __m512i raw = _mm512_castps_si512(a);
    const __m128i count = _mm_cvtsi32_si128(shift);
    const __m512i odd = _mm512_and_si512(_mm512_srl_epi32(raw, count), _mm512_set1_epi32(1));
    const __m512i round = _mm512_add_epi32(odd, _mm512_set1_epi32((1 << (shift - 1)) - 1));
    const __m512i normal =
        _mm512_sub_epi32(_mm512_srl_epi32(_mm512_add_epi32(raw, round), count), _mm512_set1_epi32(rebias));
    const __m512i small = _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(a, magic)), _mm512_castps_si512(magic));
    return finish(_mm512_mask_mov_epi32(normal, _mm512_cmp_ps_mask(a, least_normal, _CMP_LT_OQ), small), y);
  }
  __m512i stochastic(__m512 y, __m512i random) const {
    const __m512 a = _mm512_min_ps(abs_ps(y), largest);
    const __m512i raw = _mm512_castps_si512(a);
    __m512i code = _mm512_sub_epi32(_mm512_srl_epi32(raw, _mm_cvtsi32_si128(shift)), _mm512_set1_epi32(rebias));
    __m512i p = _mm512_and_si512(raw, _mm512_set1_epi32((1 << shift) - 1));
    if (shift < 16) {
      p = _mm512_slli_epi32(p, static_cast<unsigned>(16 - shift));
    } else if (shift > 16) {  // to 16 bits, ties to even
      const int drop = shift - 16;
      const __m512i odd = _mm512_and_si512(_mm512_srl_epi32(p, _mm_cvtsi32_si128(drop)), _mm512_set1_epi32(1));
      const __m512i round = _mm512_add_epi32(odd, _mm512_set1_epi32((1 << (drop - 1)) - 1));
      p = _mm512_srl_epi32(_mm512_add_epi32(p, round), _mm_cvtsi32_si128(drop));
    }
    if (!same_exponent) {
      const __mmask16 small = _mm512_cmp_ps_mask(a, least_normal, _CMP_LT_OQ);
      const __m512 t = _mm512_mul_ps(a, quanta), w = trunc_ps(t);
      code = _mm512_mask_cvttps_epi32(code, small, w);
      p = _mm512_mask_mov_epi32(p, small, nearest_int(_mm512_mul_ps(_mm512_sub_ps(t, w), _mm512_set1_ps(65536.0f))));
    }
    return finish(add_one(code, outward(p, random, is_negative(y))), y);
  }
};

// Tables: the code is the count of midpoints below y; each midpoint is kept as the largest float not above it.
struct TableEncoder {
  int bits;
  const float* middles;  // 2^bits of them, the last of no use
  __m512 few;            // they themselves, of at most 16

  TableEncoder(const ElementFormat& f, const float* m) : bits(f.bits), middles(m), few(_mm512_loadu_ps(m)) {}
  __m512i nearest(__m512 y) const {
    __m512i code = _mm512_setzero_si512();
    for (int step = 1 << (bits - 1); step > 0; step /= 2) {
      const __m512i at = _mm512_add_epi32(code, _mm512_set1_epi32(step - 1));
      const __m512 middle = bits <= 4 ? _mm512_permutexvar_ps(at, few) : _mm512_i32gather_ps(at, middles, 4);
      code = _mm512_mask_add_epi32(code, _mm512_cmp_ps_mask(y, middle, _CMP_GT_OQ), code, _mm512_set1_epi32(step));
    }
    return code;
  }
};

}  // namespace
}  // namespace lowbit::avx512
