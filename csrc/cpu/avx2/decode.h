// Decoding of codes in registers without GFNI. Everything here is static: this header is compiled with AVX2 flags only.
//
// A tile16 tile (formats/layout.h) of a width below 8 is eight 8 x 8 bit matrices, of which `bits` rows are stored.
// Transposing one, byte (row) i and bit (column) j, swaps blocks of 1, 2 and 4 on the diagonal: six instructions each.
//   up to 4 bits   a matrix is two 4 x 4 ones in 32 bits, which the first two steps transpose: the low halves of the
//                  bytes are the codes of an even row of the tile, the high halves of the row after it
//   5 to 7 bits    all three steps, a 64-bit lane a matrix
//   1 bit          a byte a matrix: eight copies of it, of which each keeps one bit
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "cpu/simd/vector.h"
#include "formats/format.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// Swaps the bits of `mask` with those kShift above them.
template <int kShift>
LOWBIT_INLINE Ints swap_bits(Ints v, int64_t mask) {
  const Ints t = _mm256_and_si256(_mm256_xor_si256(v, _mm256_srli_epi64(v, kShift)), _mm256_set1_epi64x(mask));
  return _mm256_xor_si256(_mm256_xor_si256(v, t), _mm256_slli_epi64(t, kShift));
}
// The first two steps: the 4 x 4 bit matrices in the quarters of every 64-bit lane.
LOWBIT_INLINE Ints transpose_quarters(Ints v) {
  return swap_bits<14>(swap_bits<7>(v, 0x00aa00aa00aa00aa), 0x0000cccc0000cccc);
}
// The 8 x 8 bit matrix in every 64-bit lane, row i in byte i.
LOWBIT_INLINE Ints transpose_bits(Ints v) { return swap_bits<28>(transpose_quarters(v), 0x00000000f0f0f0f0); }

LOWBIT_INLINE Ints load_twice(const uint8_t* low, const uint8_t* high) {
  const auto half = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(half(low)), half(high), 1);
}

template <int kBits>
struct TileDecoder {
  static constexpr int kBytes = 8 * kBits;
  static constexpr int kLoad = kBits == 8   ? 64
                               : kBits == 1 ? 8
                               : kBits == 2 ? 16
                               : kBits == 3 ? 28
                               : kBits == 4 ? 32
                                            : 6 * kBits + 16;
  Ints spread;

  TileDecoder() {
    alignas(32) uint8_t index[32];
    for (int i = 0; i < 32; ++i) {
      if (kBits == 1) {
        index[i] = static_cast<uint8_t>(i / 8);
      } else {  // byte i % rows of group `i / rows` of its half, whose bytes begin at 0 (2 bits: all in one half)
        constexpr int kRows = kBits <= 4 ? 4 : 8;
        const int group = kBits == 2 ? i / kRows : i % 16 / kRows;
        index[i] = static_cast<uint8_t>(i % kRows < kBits ? group * kBits + i % kRows : 0x80);
      }
    }
    spread = load_ints(index);
  }

  // Of 2 to 4 bits the even rows come first, then the odd ones.
  static constexpr bool kRowsInOrder = kBits == 1 || kBits > 4;
  template <class Vector>
  static LOWBIT_INLINE void to_order(Vector* even, Vector* odd) {
    const Ints a = reinterpret_cast<Ints>(*even), b = reinterpret_cast<Ints>(*odd);
    const Ints low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
    *even = reinterpret_cast<Vector>(_mm256_permute2x128_si256(low, high, 0x20));
    *odd = reinterpret_cast<Vector>(_mm256_permute2x128_si256(low, high, 0x31));
  }
  static LOWBIT_INLINE void from_order(const float* in, float* out) {
    for (int i = 0; i < 16; ++i) out[i % 2 * 8 + i / 2] = in[i];
  }

  LOWBIT_INLINE void operator()(const uint8_t* p, bool whole, Ints (&codes)[2]) const {
    decode(p, whole, codes);
    if constexpr (!kRowsInOrder) to_order(&codes[0], &codes[1]);
  }

  LOWBIT_INLINE void decode(const uint8_t* p, bool whole, Ints (&codes)[2]) const {
    if (whole) return decode_whole(p, codes);
    alignas(32) uint8_t copy[64] = {};
    std::memcpy(copy, p, kBytes);
    decode_whole(copy, codes);
  }

  LOWBIT_INLINE void decode_whole(const uint8_t* p, Ints (&codes)[2]) const {
    if constexpr (kBits == 8) {
      codes[0] = load_ints(p);
      codes[1] = load_ints(p + 32);
    } else if constexpr (kBits == 1) {
      int64_t tile;
      std::memcpy(&tile, p, 8);
      const Ints all = _mm256_set1_epi64x(tile);
      const Ints bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
      for (int i = 0; i < 2; ++i) {
        const Ints copies = _mm256_shuffle_epi8(all, i == 0 ? spread : _mm256_add_epi8(spread, bytes(4)));
        codes[i] = _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(copies, bit), bit), bytes(1));
      }
    } else if constexpr (kBits <= 4) {
      Ints v;  // the matrices of two rows of the tile in every 32 bits
      if constexpr (kBits == 2) {
        v = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      } else if constexpr (kBits == 3) {
        v = load_twice(p, p + 12);
      } else {
        v = load_ints(p);
      }
      if (kBits < 4) v = _mm256_shuffle_epi8(v, spread);
      v = transpose_quarters(v);
      codes[0] = _mm256_and_si256(v, bytes(15));
      codes[1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), bytes(15));
    } else {
      codes[0] = transpose_bits(_mm256_shuffle_epi8(load_twice(p, p + 2 * kBits), spread));
      codes[1] = transpose_bits(_mm256_shuffle_epi8(load_twice(p + 4 * kBits, p + 6 * kBits), spread));
    }
  }
};

// The inverse: the tile of 64 codes at p. May write 64 bytes where there is room for them.
template <int kBits>
struct TileEncoder {
  static constexpr int kBytes = 8 * kBits;
  Ints squeeze;  // the kBits first bytes of both 64-bit lanes together

  TileEncoder() {
    alignas(32) uint8_t index[32];
    for (int i = 0; i < 32; ++i) {
      const int at = i % 16;
      index[i] = static_cast<uint8_t>(at < 2 * kBits ? at / kBits * 8 + at % kBits : 0x80);
    }
    squeeze = load_ints(index);
  }
  LOWBIT_INLINE void operator()(const Ints (&codes)[2], uint8_t* p, int64_t room) const {
    if (room >= 64) return encode(codes, p);
    alignas(32) uint8_t copy[64];
    encode(codes, copy);
    std::memcpy(p, copy, kBytes);
  }
  LOWBIT_INLINE void encode(const Ints (&codes)[2], uint8_t* p) const {
    if constexpr (kBits == 8) {
      store_ints(p, codes[0]);
      store_ints(p + 32, codes[1]);
    } else {
      for (int i = 0; i < 2; ++i) {
        const Ints v = _mm256_shuffle_epi8(transpose_bits(codes[i]), squeeze);
        store_halves(p + 4 * i * kBits, _mm256_castsi256_si128(v));
        store_halves(p + (4 * i + 2) * kBits, _mm256_extracti128_si256(v, 1));
      }
    }
  }
};

// table[code] for codes of kBits bits (bits above must be zero): 16 entries at a time, zero where the code is not
// theirs.
template <int kBits>
struct ByteTable {
  static constexpr int kCount = kBits <= 4 ? 1 : 1 << (kBits - 4);
  Ints t[kCount];

  explicit ByteTable(const void* table) {
    for (int i = 0; i < kCount; ++i) {
      t[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(table) + i));
    }
  }
  LOWBIT_INLINE Ints operator()(Ints codes) const {
    if constexpr (kBits <= 4) return _mm256_shuffle_epi8(t[0], codes);
    Ints out = no_ints();
    for (int i = 0; i < kCount; ++i) {
      // an index is below 16 here, and by the saturating sum has its top bit elsewhere
      const Ints at = _mm256_adds_epu8(_mm256_xor_si256(codes, bytes(16 * i)), bytes(0x70));
      out = _mm256_or_si256(out, _mm256_shuffle_epi8(t[i], at));
    }
    return out;
  }
};

inline int64_t lookup_high_halves(const uint8_t*, int64_t, const uint16_t*, float*) { return 0; }

// The columns of the rows of a tile, as fp32. Up to 3 bits, and other tables of 4, by a table in registers. Integers
// from 4 bits on by their place in a significand: a byte in the low bits of that of 2^23, or in the next ones of 2^15,
// adds its value, and a subtraction takes the power away. Floats of at most 5 exponent bits through fp16, which has
// their numbers (and, of e5m2, the special values) under another bias. Others by gathering.
template <int kBits>
struct ColumnValues {
  enum class Way : uint8_t { kTable, kInteger, kHalf };
  SixteenFloats few;
  const float* table;
  Way way;
  Ints flip;  // signed codes as unsigned ones
  Floats even, odd;
  Ints sign, magnitude, nan_code;
  Floats unit;
  int shift;

  ColumnValues(const ElementFormat& f, const float* values)
      : few(values), table(values), way(Way::kTable), sign(ints(1 << (kBits - 1))), nan_code(ints(-1)), shift(0) {
    const int half = f.rule == kSigned ? 1 << (kBits - 1) : 0;
    flip = bytes(half);
    even = floats(8388608.0f + static_cast<float>(half));
    odd = floats(32768.0f + static_cast<float>(half));
    magnitude = sub(sign, ints(1));
    unit = as_floats(ints((127 + 15 - f.bias) << 23));
    const bool reserved = f.exponent == 5;  // fp16 takes the largest exponent for infinities and NaN
    if (f.kind == Kind::kInt && (f.rule == kSigned || f.rule == kUnsigned)) {
      way = Way::kInteger;
    } else if (f.kind == Kind::kFloat && f.exponent <= 5 && (f.specials == kIeee) == reserved) {
      way = Way::kHalf;
      shift = 10 - f.mantissa;
      if (f.specials == kNanOnly) nan_code = magnitude;
    }
  }
  LOWBIT_INLINE void operator()(Ints codes, Floats (&out)[4]) const {
    if (kBits >= 4 && way == Way::kInteger) {
      const Ints first = bit_xor(codes, flip), second = _mm256_srli_epi32(first, 16);
      out[0] = in_significand(first, 0x000000ff, 0x4b000000, even);
      out[1] = in_significand(first, 0x0000ff00, 0x47000000, odd);
      out[2] = in_significand(second, 0x000000ff, 0x4b000000, even);
      out[3] = in_significand(second, 0x0000ff00, 0x47000000, odd);
      return;
    }
    LOWBIT_UNROLL
    for (int c = 0; c < 4; ++c) {
      const Ints at = _mm256_srli_epi32(codes, 8 * c);
      if constexpr (kBits <= 3) {
        out[c] = _mm256_permutevar8x32_ps(few.low, at);
      } else if constexpr (kBits == 4) {
        out[c] = few(at);
      } else {
        const Ints code = bit_and(at, ints(255));
        out[c] = way == Way::kHalf ? through_half(code) : gather(table, code);
      }
    }
  }
  static LOWBIT_INLINE Floats in_significand(Ints codes, int mask, int power, Floats bias) {
    return sub(as_floats(bit_or(bit_and(codes, ints(mask)), ints(power))), bias);
  }
  LOWBIT_INLINE Floats through_half(Ints code) const {
    const Ints m = bit_and(code, magnitude);
    const Floats v = mul(from_f16(narrow(shift_left(m, shift))), unit);
    const Ints top = shift_left(bit_and(code, sign), 32 - kBits);
    return as_floats(bit_or(as_ints(select(equal(m, nan_code), as_floats(ints(0x7fc00000)), v)), top));
  }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
