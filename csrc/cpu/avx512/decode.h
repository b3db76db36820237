// Decoding of codes in registers. Everything here is static: this header is compiled with AVX-512 flags only.
//
// A tile16 tile (formats/layout.h) of a width below 8 is eight 8 x 8 bit matrices, of which `bits` rows are stored: one
// vpermb puts row b of each at byte 7 - b of its 64-bit lane, and vgf2p8affineqb with the identity as data transposes
// all eight. The 64 codes come out in the order of the tile: 32-bit lane i holds 4 consecutive columns of row i.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace lowbit::avx512 {
namespace {

// Byte i of every 64-bit lane is 1 << i.
inline __m512i identity_bytes() { return _mm512_set1_epi64(static_cast<long long>(0x8040201008040201ull)); }

// Below 8 bits the codes come out as (code ^ kFlip) << shift: the transpose adds a constant to its bytes for nothing,
// and a matrix may lie a row higher. kQuads consecutive tiles may lie in one matrix, the first in the low bits of its
// bytes.
template <int kBits, int kFlip = 0, int kQuads = 1>
struct TileDecoder {
  static constexpr int kBytes = 8 * kBits * kQuads;
  // the narrowest register that holds a tile
  static constexpr int kLoad = kBytes <= 16 ? 16 : kBytes <= 32 ? 32 : 64;

  __m512i spread, identity;
  __mmask64 rows;  // bytes of the bit matrices that are stored

  explicit TileDecoder(int shift = 0) : identity(identity_bytes()) {
    alignas(64) uint8_t index[64] = {};
    rows = 0;
    for (int lane = 0; lane < 8; ++lane) {
      for (int b = 0; b < kBits * kQuads && kBits < 8; ++b) {
        const int at = 8 * lane + 7 - b - shift;
        index[at] = static_cast<uint8_t>((b / kBits * 8 + lane) * kBits + b % kBits);
        rows |= __mmask64{1} << at;
      }
    }
    spread = _mm512_load_si512(index);
  }

  static constexpr bool kRowsInOrder = true;
  static void from_order(const float*, float*) {}
  void operator()(const uint8_t* p, bool whole, __m512i (&codes)[1]) const { codes[0] = (*this)(p, whole); }
  void decode(const uint8_t* p, bool whole, __m512i (&codes)[1]) const { codes[0] = (*this)(p, whole); }

  // The codes of the tile at p; `whole` promises that kLoad bytes may be read.
  __m512i operator()(const uint8_t* p, bool whole) const {
    if constexpr (kBits == 8) {
      return _mm512_loadu_si512(p);
    } else {
      __m512i raw;
      if (!whole) {
        raw = _mm512_maskz_loadu_epi8(~__mmask64{0} >> (64 - kBytes), p);
      } else if constexpr (kLoad == 16) {
        raw = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      } else if constexpr (kLoad == 32) {
        raw = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      } else {
        raw = _mm512_loadu_si512(p);
      }
      return _mm512_gf2p8affine_epi64_epi8(identity, _mm512_maskz_permutexvar_epi8(rows, spread, raw), kFlip);
    }
  }
};

// The inverse: the tile of 64 codes at p. May write 64 bytes where there is room for them.
template <int kBits>
struct TileEncoder {
  static constexpr int kBytes = 8 * kBits;
  __m512i reverse, squeeze;  // bytes within 64-bit lanes; the kBits first bytes of all lanes together

  TileEncoder() : reverse(_mm512_broadcast_i32x4(_mm_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607))) {
    alignas(64) uint8_t index[64] = {};
    for (int i = 0; i < kBytes && kBits < 8; ++i) index[i] = static_cast<uint8_t>(i / kBits * 8 + i % kBits);
    squeeze = _mm512_load_si512(index);
  }
  void operator()(const __m512i (&codes)[1], uint8_t* p, int64_t room) const {
    __m512i tile = codes[0];
    if constexpr (kBits < 8) {
      tile = _mm512_gf2p8affine_epi64_epi8(identity_bytes(), _mm512_shuffle_epi8(tile, reverse), 0);
      tile = _mm512_permutexvar_epi8(squeeze, tile);
    }
    if (room < 64) {
      _mm512_mask_storeu_epi8(p, ~__mmask64{0} >> (64 - kBytes), tile);
    } else if constexpr (kBits == 4) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(tile));
    } else {
      _mm512_storeu_si512(p, tile);
    }
  }
};

// table[code] for 64 codes of kBits bits (bits above must be zero for 7 and 8).
template <int kBits>
struct ByteTable {
  __m512i t[kBits <= 6 ? 1 : kBits == 7 ? 2 : 4];

  explicit ByteTable(const void* table) {
    for (int i = 0; i < static_cast<int>(sizeof(t) / 64); ++i) {
      t[i] = _mm512_loadu_si512(static_cast<const char*>(table) + 64 * i);
    }
  }
  __m512i operator()(__m512i codes) const {
    if constexpr (kBits <= 6) {
      return _mm512_permutexvar_epi8(codes, t[0]);
    } else if constexpr (kBits == 7) {
      return _mm512_permutex2var_epi8(t[0], codes, t[1]);
    } else {
      const __m512i low = _mm512_permutex2var_epi8(t[0], codes, t[1]);
      const __m512i high = _mm512_permutex2var_epi8(t[2], codes, t[3]);
      return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(codes), high);
    }
  }
};

// table[code] for the codes in the low bytes of 32 words.
template <int kBits>
struct WordTable {
  static constexpr int kCount = kBits <= 5 ? 1 : 1 << (kBits - 5);
  __m512i t[kCount];

  explicit WordTable(const uint16_t* table) {
    for (int i = 0; i < kCount; ++i) t[i] = _mm512_loadu_si512(table + 32 * i);
  }
  // 64 entries from t[i] and t[i + 1]; bits of the index above the sixth are ignored.
  inline __attribute__((always_inline)) __m512i half(int i, __m512i codes) const {
    return _mm512_permutex2var_epi16(t[i], codes, t[i + 1]);
  }
  static inline __attribute__((always_inline)) __mmask32 bit(__m512i codes, short value) {
    return _mm512_test_epi16_mask(codes, _mm512_set1_epi16(value));
  }
  // The high bytes of `codes` are ignored.
  inline __attribute__((always_inline)) __m512i operator()(__m512i codes) const {
    if constexpr (kBits <= 5) {
      return _mm512_permutexvar_epi16(codes, t[0]);
    } else if constexpr (kBits == 6) {
      return half(0, codes);
    } else {
      const __mmask32 bit6 = bit(codes, 64);
      const __m512i low = _mm512_mask_mov_epi16(half(0, codes), bit6, half(2, codes));
      if constexpr (kBits == 7) return low;
      const __m512i high = _mm512_mask_mov_epi16(half(kCount - 4, codes), bit6, half(kCount - 2, codes));
      return _mm512_mask_mov_epi16(low, bit(codes, 128), high);
    }
  }
};

inline int64_t lookup_high_halves(const uint8_t* codes, int64_t n, const uint16_t* table, float* out) {
  constexpr int64_t kAtOnce = 32;
  if (n < kAtOnce) return 0;
  const WordTable<8> words(table);
  int64_t i = 0;
  for (; i + kAtOnce <= n; i += kAtOnce) {
    const __m256i part = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
    const __m512i halves = words(_mm512_cvtepu8_epi16(part));
    const __m512i first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves));
    const __m512i second = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(halves, 1));
    _mm512_storeu_si512(out + i, _mm512_slli_epi32(first, 16));
    _mm512_storeu_si512(out + i + 16, _mm512_slli_epi32(second, 16));
  }
  return i;
}

// A constant that stays in a register: the compiler would broadcast it anew for every tile, on the port of the
// permutes.
inline __attribute__((always_inline)) __m512i kept(__m512i constant) {
  asm("" : "+v"(constant));
  return constant;
}

// Signed floats of 8 bits, at most 4 of them mantissa, as bf16: exponents by a shift and an addition, but for those at
// the borders, subnormal or special, which come from a table (CodeTables::borders).
struct FloatWords {
  __m512i borders, shift, magnitude, rebias, sign;
  __m512i lowest, upper;  // the lowest bit of the exponent, and those above it

  FloatWords(int mantissa, int bias, const uint16_t* table)
      : borders(_mm512_loadu_si512(table)),
        shift(_mm512_set1_epi16(static_cast<short>(mantissa + 1))),
        magnitude(_mm512_set1_epi16(static_cast<short>(0x7f << (7 - mantissa)))),
        rebias(_mm512_set1_epi16(static_cast<short>((127 - bias) << 7))),
        sign(kept(_mm512_set1_epi16(static_cast<short>(0x8000)))),
        lowest(_mm512_set1_epi16(static_cast<short>(0x100 << mantissa))),
        upper(_mm512_set1_epi16(static_cast<short>(0x7f00 & ~((0x200 << mantissa) - 1)))) {}
  // Of the codes in the high bytes of `high`; `low` has the same in its low bytes. Other bytes are ignored.
  inline __attribute__((always_inline)) __m512i operator()(__m512i high, __m512i low) const {
    const __m512i fields = _mm512_and_si512(_mm512_srlv_epi16(high, shift), magnitude);
    const __mmask32 at_border = _mm512_testn_epi16_mask(_mm512_add_epi16(high, lowest), upper);
    const __m512i inner = _mm512_add_epi16(fields, rebias);
    const __m512i value = _mm512_mask_permutexvar_epi16(inner, at_border, low, borders);
    constexpr int kOrAnd = 0xf8;  // a | (b & c)
    return _mm512_ternarylogic_epi32(value, high, sign, kOrAnd);
  }
};

// The columns of a tile of signed or unsigned integers as fp32, without a table: a byte in the low bits of the
// significand of 2^23, or in the next ones of 2^15, adds its value, and a subtraction takes the power away. Exact.
struct IntegerColumns {
  __m512i flip;  // signed codes as unsigned ones
  __m512 even, odd;

  IntegerColumns(int bits, bool is_signed)
      : flip(_mm512_set1_epi8(static_cast<char>(is_signed ? 1 << (bits - 1) : 0))),
        even(_mm512_set1_ps(8388608.0f + static_cast<float>(is_signed ? 1 << (bits - 1) : 0))),
        odd(_mm512_set1_ps(32768.0f + static_cast<float>(is_signed ? 1 << (bits - 1) : 0))) {}
  inline __attribute__((always_inline)) void operator()(__m512i codes, __m512 (&out)[4]) const {
    const __m512i first = _mm512_xor_si512(codes, flip), second = _mm512_srli_epi32(first, 16);
    out[0] = column(first, 0x000000ff, 0x4b000000, even);
    out[1] = column(first, 0x0000ff00, 0x47000000, odd);
    out[2] = column(second, 0x000000ff, 0x4b000000, even);
    out[3] = column(second, 0x0000ff00, 0x47000000, odd);
  }
  static inline __attribute__((always_inline)) __m512 column(__m512i codes, int mask, int power, __m512 bias) {
    constexpr int kAndOr = 0xea;  // (a & b) | c
    const __m512i v = _mm512_ternarylogic_epi32(codes, _mm512_set1_epi32(mask), _mm512_set1_epi32(power), kAndOr);
    return _mm512_sub_ps(_mm512_castsi512_ps(v), bias);
  }
};

}  // namespace
}  // namespace lowbit::avx512
