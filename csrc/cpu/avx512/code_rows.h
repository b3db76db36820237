// Rows of codes in every layout, 512 columns at a time: a reader gives the codes of columns c .. c + 511 of a row as
// eight registers of bytes (zero past the end), a writer takes them. 512 columns are one cache line of a bit plane.
// All in an anonymous namespace: this folder's code must not be merged with that of files built without AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/vector.h"

namespace lowbit::avx512 {
namespace {

constexpr int64_t kChunk = 64;   // codes in a register
constexpr int64_t kBlock = 512;  // codes in a Run
constexpr int kChunks = 8;
using Run = __m512i[8];

// Reverses the bytes of each 64-bit lane.
inline __m512i reverse_lanes(__m512i v) {
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607)));
}

// Transposes the 8 x 8 bit matrix in each 64-bit lane, whose rows stand in the bytes from the last to the first: byte k
// of the result is bit k of all. (A bit-matrix product with the unit vectors counts the matrix rows from the end.)
inline __m512i transpose_bits(__m512i reversed) {
  return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64(static_cast<int64_t>(0x8040201008040201)), reversed, 0);
}

// v[i] 64-bit lane j <-> v[j] lane i.
inline void transpose8(Run& v) {
  Run a, b;
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int k = 0; k < 2; ++k) {
      b[4 * i + k] = _mm512_shuffle_i64x2(a[4 * i + k], a[4 * i + 2 + k], 0x88);      // lanes 0, 2
      b[4 * i + 2 + k] = _mm512_shuffle_i64x2(a[4 * i + k], a[4 * i + 2 + k], 0xdd);  // lanes 1, 3
    }
  }
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm512_shuffle_i64x2(b[k], b[4 + k], 0x88);
    v[4 + k] = _mm512_shuffle_i64x2(b[k], b[4 + k], 0xdd);
  }
}

inline void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(static_cast<const char*>(p) + i, _MM_HINT_T0);
}

// One code in a byte; of what is read only the low kBits count.
template <int kBits>
struct ByteRows {
  uint8_t* data;
  int64_t row_stride;
  int64_t cols;

  void load(int64_t r, int64_t c, Run& v) const {
    const uint8_t* p = data + r * row_stride + c;
    if (cols - c >= kBlock) {
      for (int i = 0; i < 8; ++i) v[i] = _mm512_loadu_si512(p + i * kChunk);
    } else {
      for (int i = 0; i < 8; ++i) {
        const int64_t left = cols - c - i * kChunk;
        v[i] = left > 0 ? load_bytes(p + i * kChunk, left) : _mm512_setzero_si512();
      }
    }
    if (kBits < 8) {
      for (auto& codes : v) codes = _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>((1 << kBits) - 1)));
    }
  }
  // Asks for what load(r, c) will read.
  void expect(int64_t r, int64_t c) const { prefetch(data + r * row_stride + c, kBlock); }
  void store(int64_t r, int64_t c, const Run& v) const {
    uint8_t* p = data + r * row_stride + c;
    if (cols - c >= kBlock) {
      for (int i = 0; i < 8; ++i) _mm512_storeu_si512(p + i * kChunk, v[i]);
    } else {
      for (int i = 0; i < 8; ++i) _mm512_mask_storeu_epi8(p + i * kChunk, bytes_below(cols - c - i * kChunk), v[i]);
    }
  }
};

// In the vpermb indices of planes a register is 8 codes x 8 bytes [lane g][byte], or the masks of 8 planes [plane][g].
struct PlaneIndex {
  alignas(64) uint8_t to_planes[64];    // byte (p, g) is byte bits - 1 - p of lane g
  alignas(64) uint8_t from_planes[64];  // byte 7 - b of lane g is byte (bits - 1 - b, g): reversed for transpose_bits
};

template <int kBits>
constexpr PlaneIndex make_plane_index() {
  PlaneIndex t{};
  for (int g = 0; g < 8; ++g) {
    for (int b = 0; b < 8; ++b) {
      const int p = b < kBits ? kBits - 1 - b : b;  // planes past kBits are zero
      t.to_planes[8 * p + g] = static_cast<uint8_t>(8 * g + b);
      t.from_planes[8 * g + 7 - b] = static_cast<uint8_t>(8 * p + g);
    }
  }
  return t;
}
template <int kBits>
constexpr PlaneIndex kPlaneIndex = make_plane_index<kBits>();

// Bit planes. A Run is one register of each plane, and register i of the codes takes 64-bit lane i of every plane.
template <int kBits>
struct PlaneRows {
  uint32_t* data;
  int64_t row_stride;
  int64_t plane_stride;
  int64_t cols;

  int64_t bytes(int64_t c) const { return cols - c >= kBlock ? kChunk : (cols - c + 31) / 32 * 4; }

  void load(int64_t r, int64_t c, Run& v) const {
    const uint32_t* p = data + r * row_stride + c / 32;
    const int64_t n = bytes(c);
    for (int plane = 0; plane < 8; ++plane) {
      v[plane] = plane < kBits ? load_bytes(p + plane * plane_stride, n) : _mm512_setzero_si512();
    }
    transpose8(v);
    const __m512i index = _mm512_load_si512(kPlaneIndex<kBits>.from_planes);
    for (int i = 0; i < 8; ++i) v[i] = transpose_bits(_mm512_permutexvar_epi8(index, v[i]));
    if (cols - c < kBlock) {
      for (int i = 0; i < 8; ++i) v[i] = first_bytes(v[i], cols - c - i * kChunk);
    }
  }
  void expect(int64_t r, int64_t c) const {
    for (int plane = 0; plane < kBits; ++plane) {
      prefetch(data + plane * plane_stride + r * row_stride + c / 32, kChunk);
    }
  }
  void store(int64_t r, int64_t c, const Run& codes) const {
    uint32_t* p = data + r * row_stride + c / 32;
    const __m512i index = _mm512_load_si512(kPlaneIndex<kBits>.to_planes);
    Run v;
    for (int i = 0; i < 8; ++i) v[i] = _mm512_permutexvar_epi8(index, transpose_bits(reverse_lanes(codes[i])));
    transpose8(v);
    const int64_t n = bytes(c);
    for (int plane = 0; plane < kBits; ++plane) store_bytes(p + plane * plane_stride, n, v[plane]);
  }
};

// Two 4-bit codes in a byte, the even column in the low half, or in the high one.
template <bool kHighFirst>
struct NibbleRows {
  uint8_t* data;
  int64_t row_stride;
  int64_t cols;

  // The bytes of the register that begins at column c, at most 32.
  int64_t bytes(int64_t c) const { return cols - c >= kChunk ? kChunk / 2 : (cols - c + 1) / 2; }

  void load(int64_t r, int64_t c, Run& v) const {
    const uint8_t* p = data + r * row_stride + c / 2;
    for (int i = 0; i < 8; ++i, p += kChunk / 2, c += kChunk) {
      const __m256i raw = cols - c >= kChunk ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))
                          : cols > c         ? _mm256_maskz_loadu_epi8(static_cast<__mmask32>(bytes_below(bytes(c))), p)
                                             : _mm256_setzero_si256();
      const __m512i pairs = _mm512_cvtepu8_epi16(raw);
      const __m512i both = kHighFirst ? _mm512_or_si512(_mm512_srli_epi16(pairs, 4), _mm512_slli_epi16(pairs, 8))
                                      : _mm512_or_si512(pairs, _mm512_slli_epi16(pairs, 4));
      v[i] = _mm512_and_si512(both, _mm512_set1_epi8(15));
      if (cols - c < kChunk) v[i] = first_bytes(v[i], cols - c);
    }
  }
  void expect(int64_t r, int64_t c) const { prefetch(data + r * row_stride + c / 2, kBlock / 2); }
  void store(int64_t r, int64_t c, const Run& v) const {
    uint8_t* p = data + r * row_stride + c / 2;
    for (int i = 0; i < 8 && c < cols; ++i, p += kChunk / 2, c += kChunk) {
      // each pair is its dot product with (1, 16) or (16, 1)
      const __m256i raw =
          _mm512_cvtepi16_epi8(_mm512_maddubs_epi16(v[i], _mm512_set1_epi16(kHighFirst ? 0x0110 : 0x1001)));
      if (cols - c >= kChunk) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), raw);
      } else {
        _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(bytes_below(bytes(c))), raw);
      }
    }
  }
};

// Four 6-bit codes in three bytes.
struct Packed6Rows {
  uint8_t* data;
  int64_t row_stride;
  int64_t cols;

  // The bytes of the register that begins at column c, at most 48.
  int64_t bytes(int64_t c) const { return cols - c >= kChunk ? kChunk / 4 * 3 : (cols - c + 3) / 4 * 3; }

  void load(int64_t r, int64_t c, Run& v) const {
    // six bytes (eight codes) to a 64-bit lane, then for each byte a shift of its own: 0, 6, 12, ... 42
    alignas(64) static constexpr uint8_t spread[64] = {0,  1,  2,  3,  4,  5,  63, 63, 6,  7,  8,  9,  10, 11, 63, 63,
                                                       12, 13, 14, 15, 16, 17, 63, 63, 18, 19, 20, 21, 22, 23, 63, 63,
                                                       24, 25, 26, 27, 28, 29, 63, 63, 30, 31, 32, 33, 34, 35, 63, 63,
                                                       36, 37, 38, 39, 40, 41, 63, 63, 42, 43, 44, 45, 46, 47, 63, 63};
    const __m512i shifts = _mm512_set1_epi64(0x2a241e18120c0600);
    const uint8_t* p = data + r * row_stride + c / 4 * 3;
    for (int i = 0; i < 8; ++i, p += kChunk / 4 * 3, c += kChunk) {
      const __m512i raw = cols > c ? _mm512_maskz_loadu_epi8(bytes_below(bytes(c)), p) : _mm512_setzero_si512();
      const __m512i lanes = _mm512_permutexvar_epi8(_mm512_load_si512(spread), raw);
      v[i] = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, lanes), _mm512_set1_epi8(63));
      if (cols - c < kChunk) v[i] = first_bytes(v[i], cols - c);
    }
  }
  void expect(int64_t r, int64_t c) const { prefetch(data + r * row_stride + c / 4 * 3, kBlock / 4 * 3); }
  void store(int64_t r, int64_t c, const Run& v) const {
    alignas(64) static constexpr uint8_t squeeze[64] = {0,  1,  2,  4,  5,  6,  8,  9,  10, 12, 13, 14, 16, 17, 18, 20,
                                                        21, 22, 24, 25, 26, 28, 29, 30, 32, 33, 34, 36, 37, 38, 40, 41,
                                                        42, 44, 45, 46, 48, 49, 50, 52, 53, 54, 56, 57, 58, 60, 61, 62};
    uint8_t* p = data + r * row_stride + c / 4 * 3;
    for (int i = 0; i < 8 && c < cols; ++i, p += kChunk / 4 * 3, c += kChunk) {
      const __m512i pairs = _mm512_maddubs_epi16(v[i], _mm512_set1_epi16(0x4001));    // a + 2^6 b
      const __m512i quads = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x10000001));  // ab + 2^12 cd
      _mm512_mask_storeu_epi8(p, bytes_below(bytes(c)), _mm512_permutexvar_epi8(_mm512_load_si512(squeeze), quads));
    }
  }
};

}  // namespace
}  // namespace lowbit::avx512
