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

#include "cpu/avx2/vector.h"
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

  LOWBIT_INLINE void operator()(const uint8_t* p, bool whole, Ints (&codes)[2]) const {
    if (whole) return decode(p, codes);
    alignas(32) uint8_t copy[64] = {};
    std::memcpy(copy, p, kBytes);
    decode(copy, codes);
  }

  LOWBIT_INLINE void decode(const uint8_t* p, Ints (&codes)[2]) const {
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
      const Ints even = _mm256_and_si256(v, bytes(15)), odd = _mm256_and_si256(_mm256_srli_epi16(v, 4), bytes(15));
      const Ints low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
      codes[0] = _mm256_permute2x128_si256(low, high, 0x20);
      codes[1] = _mm256_permute2x128_si256(low, high, 0x31);
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

// table[code] for codes of kBits bits (bits above must be zero): 16 entries at a time, zero where the code is not theirs.
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

// The column c of the rows of a tile, as fp32: up to 4 bits by a table in registers, integers by conversion, floats of
// at most 5 exponent bits through fp16, which has their numbers (and, of e5m2, the special values) under another bias;
// others by gathering.
template <int kBits>
struct ColumnValues {
  enum class Way : uint8_t { kConvert, kHalf, kGather };
  Floats low, high;  // entries 0 .. 7 and 8 .. 15
  const float* table;
  Way way;
  Ints flip, sign, magnitude;
  Ints bias;  // of signed integers
  Floats unit;
  Floats nan;
  Ints nan_code;
  int shift;

  ColumnValues(const ElementFormat& f, const float* values)
      : low(load(values)), high(load(values + 8)), table(values), way(Way::kGather), shift(0) {
    flip = bias = no_ints();
    sign = magnitude = no_ints();
    unit = nan = no_floats();
    nan_code = ints(-1);
    if (f.kind == Kind::kInt && (f.rule == kSigned || f.rule == kUnsigned)) {
      way = Way::kConvert;
      flip = bias = ints(f.rule == kSigned ? 1 << (f.bits - 1) : 0);
    } else if (f.kind == Kind::kFloat && f.specials != kPower && f.exponent <= 5 &&
               f.bits == 1 + f.exponent + f.mantissa && (f.specials != kIeee || f.exponent == 5) &&
               (f.exponent < 5 || f.specials == kIeee)) {
      way = Way::kHalf;
      shift = 10 - f.mantissa;
      sign = ints(1 << (f.bits - 1));
      magnitude = ints((1 << (f.bits - 1)) - 1);
      unit = as_floats(ints((127 + 15 - f.bias) << 23));
      if (f.specials == kNanOnly) nan_code = magnitude;
      nan = as_floats(ints(0x7fc00000));
    }
  }
  LOWBIT_INLINE Floats operator()(Ints codes, int column) const {
    const Ints at = _mm256_and_si256(_mm256_srli_epi32(codes, 8 * column), ints(255));
    if constexpr (kBits <= 3) {
      return _mm256_permutevar8x32_ps(low, at);
    } else if constexpr (kBits == 4) {
      const Floats eighth = as_floats(_mm256_slli_epi32(at, 28));
      return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, at), _mm256_permutevar8x32_ps(high, at), eighth);
    } else {
      if (way == Way::kConvert) return to_floats(sub(bit_xor(at, flip), bias));
      if (way == Way::kGather) return gather(table, at);
      const Ints m = bit_and(at, magnitude);
      const Floats v = mul(from_f16(narrow(shift_left(m, shift))), unit);
      const Ints top = shift_left(bit_and(at, sign), 32 - kBits);
      return as_floats(bit_or(as_ints(select(equal(m, nan_code), nan, v)), top));
    }
  }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
