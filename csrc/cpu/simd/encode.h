// Vectors of floats to codes: encode (formats/codec.h) and encode_stochastic (ref/stochastic_round.h), bit for bit.
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

#include <cstdint>

#include "cpu/simd/lookup.h"
#include "cpu/simd/vector.h"
#include "formats/format.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// Which lanes go outward.
LOWBIT_INLINE Mask outward(Ints p, Ints bits, Mask negative) {
  const Mask from_zero = but_not(less(bits, p), negative);
  return either(from_zero, but_not(negative, less(bits, sub(ints(0x10000), p))));
}
LOWBIT_INLINE Ints negate(Ints v, Mask where) { return select(where, sub(no_ints(), v), v); }
LOWBIT_INLINE Ints add_one(Ints v, Mask where) { return select(where, add(v, ints(1)), v); }
LOWBIT_INLINE Mask is_even(Ints v) { return equal(bit_and(v, ints(1)), no_ints()); }

// Signed, unsigned and ternary integers.
struct IntEncoder {
  Floats low, high;

  explicit IntEncoder(const ElementFormat& f) {
    const int top = f.rule == kTernary ? 1 : f.rule == kSigned ? (1 << (f.bits - 1)) - 1 : (1 << f.bits) - 1;
    const int bottom = f.rule == kUnsigned ? 0 : f.rule == kTernary ? -1 : -top - 1;
    high = floats(static_cast<float>(top));
    low = floats(static_cast<float>(bottom));
  }
  // This order of operands keeps a NaN, which becomes the code of zero.
  Floats clamp(Floats y) const { return min(high, max(low, y)); }
  Floats value(Ints codes) const { return to_floats(codes); }
  Ints nearest(Floats y) const { return to_ints(clamp(y)); }
  Ints stochastic(Floats y, Ints bits) const {
    y = clamp(y);
    const Floats a = abs(y), w = trunc(a);
    const Ints p = to_ints(mul(sub(a, w), floats(65536.0f)));
    const Mask negative = is_negative(y);
    return negate(add_one(trunc_ints(w), outward(p, bits, negative)), negative);
  }
};

// Bipolar integers: the odd numbers from -top to top, code (v + top) / 2.
struct BipolarEncoder {
  Floats top;
  Ints top_int;

  explicit BipolarEncoder(const ElementFormat& f)
      : top(floats(static_cast<float>((1 << f.bits) - 1))), top_int(ints((1 << f.bits) - 1)) {}
  Floats clamp(Floats y) const { return min(max(y, sub(no_floats(), top)), top); }
  Ints code(Ints v) const { return shift_right(add(v, top_int), 1); }
  Floats value(Ints codes) const { return to_floats(sub(add(codes, codes), top_int)); }

  Ints nearest(Floats y) const {
    y = clamp(y);
    const Floats down = floor(y);
    const Ints whole = trunc_ints(down);
    const Mask even = is_even(whole);
    const Mask tie = both(even, equal(down, y));
    const Ints c = code(add_one(whole, even));
    return select(tie, bit_and(c, ints(~1)), c);
  }
  // The odd number below the magnitude is w, or w - 1 where w is even (-1 at 0), and the distance counts half steps.
  Ints stochastic(Floats y, Ints bits) const {
    y = clamp(y);
    const Floats a = abs(y), w = trunc(a);
    const Ints whole = trunc_ints(w);
    const Mask even = is_even(whole);
    Ints p = to_ints(mul(sub(a, w), floats(32768.0f)));
    p = select(even, add(p, ints(32768)), p);
    const Mask negative = is_negative(y), out = outward(p, bits, negative);
    Ints v = select(even, sub(whole, ints(1)), whole);
    v = select(out, add(v, ints(2)), v);
    return code(negate(v, negative));
  }
};

// Signed minifloats, and the 16-bit floats. Normal values are cut out of the bits of the float32; below the least
// normal one a sum with 2^23 quanta (nearest) or a product with their inverse (stochastic) counts the quanta.
struct FloatEncoder {
  int mantissa, shift, rebias, sign_shift;
  bool infinite, nan, same_exponent;
  Floats largest, least_normal, magic, quantum, quanta;  // quanta = 1 / quantum
  Ints infinity_code, nan_code;

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
    largest = as_floats(ints((last + rebias) << shift));
    least_normal = power(1 - f.bias);
    quantum = same_exponent ? no_floats() : power(1 - f.bias - f.mantissa);
    magic = power(24 - f.bias - f.mantissa);
    quanta = same_exponent ? no_floats() : power(f.bias + f.mantissa - 1);
    infinity_code = ints(last + 1);
    nan_code = ints((1 << magnitude_bits) - 1);
  }
  static Floats power(int e) { return as_floats(ints((e + 127) << 23)); }

  // Of formats whose bias is not that of float32.
  Floats value(Ints codes) const {
    const Ints sign = shift_left(shift_right(codes, 31 - sign_shift), 31);
    const Ints magnitude = bit_and(codes, nan_code);
    const Ints normal = shift_left(add(magnitude, ints(rebias)), shift);
    const Floats small = mul(to_floats(magnitude), quantum);
    const Mask below = less(magnitude, ints(1 << mantissa));
    Ints v = select(below, as_ints(small), normal);
    if (nan) v = select(equal(magnitude, nan_code), ints(0x7fc00000), v);
    if (infinite) {
      v = select(equal(magnitude, infinity_code), ints(0x7f800000), v);
    }
    return as_floats(bit_or(v, sign));
  }

  // Puts the sign and the special values of y on magnitude codes.
  Ints finish(Ints code, Floats y) const {
    if (infinite) code = select(equal(abs(y), as_floats(ints(0x7f800000))), infinity_code, code);
    code = bit_or(code, shift_right(bit_and(as_ints(y), ints(static_cast<int>(0x80000000u))), sign_shift));
    return select(is_nan(y), nan ? nan_code : no_ints(), code);
  }
  Ints nearest(Floats y) const {
    const Floats a = min(abs(y), largest);
    const Ints raw = as_ints(a);
    const Ints odd = bit_and(shift_right(raw, shift), ints(1));
    const Ints round = add(odd, ints((1 << (shift - 1)) - 1));
    const Ints normal = sub(shift_right(add(raw, round), shift), ints(rebias));
    const Ints small = sub(as_ints(add(a, magic)), as_ints(magic));
    return finish(select(less(a, least_normal), small, normal), y);
  }
  Ints stochastic(Floats y, Ints random) const {
    const Floats a = min(abs(y), largest);
    const Ints raw = as_ints(a);
    Ints code = sub(shift_right(raw, shift), ints(rebias));
    Ints p = bit_and(raw, ints((1 << shift) - 1));
    if (shift < 16) {
      p = shift_left(p, 16 - shift);
    } else if (shift > 16) {  // to 16 bits, ties to even
      const int drop = shift - 16;
      const Ints odd = bit_and(shift_right(p, drop), ints(1));
      p = shift_right(add(p, add(odd, ints((1 << (drop - 1)) - 1))), drop);
    }
    if (!same_exponent) {
      const Mask small = less(a, least_normal);
      const Floats t = mul(a, quanta), w = trunc(t);
      code = select(small, trunc_ints(w), code);
      p = select(small, to_ints(mul(sub(t, w), floats(65536.0f))), p);
    }
    return finish(add_one(code, outward(p, random, is_negative(y))), y);
  }
};

// What a table is searched by, its last entries repeated or infinite to 256.
struct TableSteps {
  alignas(64) float values[256];
  alignas(64) float middles[256];    // the largest floats not above the midpoints; the last of no use
  alignas(64) float above[256];      // the next value
  alignas(64) double per_step[256];  // 2^16 over the step to the next value, 0 after the last
};

// Tables: the code is the count of midpoints below y.
struct TableEncoder {
  int bits;
  const TableSteps& table;
  SixteenFloats few_middles, few_above;  // they themselves, of at most 16

  TableEncoder(const ElementFormat& f, const TableSteps& t)
      : bits(f.bits), table(t), few_middles(t.middles), few_above(t.above) {}

  Ints count_below(Floats y, const SixteenFloats& few, const float* all) const {
    Ints code = no_ints();
    for (int step = 1 << (bits - 1); step > 0; step /= 2) {
      const Ints at = add(code, ints(step - 1));
      const Floats border = bits <= 4 ? few(at) : gather(all, at);
      code = select(less(border, y), add(code, ints(step)), code);
    }
    return code;
  }
  Ints nearest(Floats y) const { return count_below(y, few_middles, table.middles); }
  // The value below y, or the next one: the distance in steps is the header's p. A y below all has none, or a negative
  // one.
  Ints stochastic(Floats y, Ints random) const {
    const Ints low = count_below(y, few_above, table.above);
    bool tie = false;
    Ints p = steps_above(y, low, table.values, table.per_step, &tie);
    if (__builtin_expect(tie, 0)) p = divided(y, low);
    return add_one(low, less(random, p));
  }

 private:
  Ints divided(Floats y, Ints low) const {
    alignas(64) float x[kLanes];
    alignas(64) int32_t code[kLanes], p[kLanes];
    store(x, y);
    store_ints(code, low);
    for (int i = 0; i < kLanes; ++i) {
      const double a = table.values[code[i]], b = table.above[code[i]];
      const double steps = (static_cast<double>(x[i]) - a) / (b - a) * 65536.0;
      p[i] = table.per_step[code[i]] == 0 ? 0 : _mm_cvtsd_si32(_mm_set_sd(steps));
    }
    return load_ints(p);
  }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
