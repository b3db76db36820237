// Rows of codes in every layout, 512 columns at a time: a reader gives the codes of columns c .. c + 511 of a row as
// vectors of bytes (zero past the end), a writer takes them. Static, as all of this folder's headers.
#pragma once

#include <cstdint>

#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

constexpr int64_t kChunk = kBytes;  // codes in a vector
constexpr int64_t kBlock = 512;     // codes in a Run
constexpr int kChunks = kBlock / kChunk;
using Run = Ints[kChunks];

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
    for (int i = 0; i < kChunks; ++i) {
      const int64_t left = cols - c - i * kChunk;
      v[i] = left > 0 ? load_bytes(p + i * kChunk, left) : no_ints();
      if (kBits < 8) v[i] = bit_and(v[i], bytes((1 << kBits) - 1));
    }
  }
  // Asks for what load(r, c) will read.
  void expect(int64_t r, int64_t c) const { prefetch(data + r * row_stride + c, kBlock); }
  void store(int64_t r, int64_t c, const Run& v) const {
    uint8_t* p = data + r * row_stride + c;
    for (int i = 0; i < kChunks && c + i * kChunk < cols; ++i) {
      store_bytes(p + i * kChunk, cols - c - i * kChunk, v[i]);
    }
  }
};

// Bit planes: a word of every plane is a vector of codes.
template <int kBits>
struct PlaneRows {
  uint32_t* data;
  int64_t row_stride;
  int64_t plane_stride;
  int64_t cols;

  void load(int64_t r, int64_t c, Run& v) const {
    const uint32_t* p = data + r * row_stride + c / 32;
    const Ints spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                         3, 3, 3, 3, 3, 3);
    const Ints bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    for (int i = 0; i < kChunks; ++i) {
      const int64_t left = cols - c - i * kChunk;
      v[i] = no_ints();
      if (left <= 0) continue;
      for (int plane = 0; plane < kBits; ++plane) {  // every byte a copy of the byte its bit is in
        const Ints copies = _mm256_shuffle_epi8(ints(static_cast<int32_t>(p[plane * plane_stride + i])), spread);
        v[i] = _mm256_sub_epi8(_mm256_add_epi8(v[i], v[i]), _mm256_cmpeq_epi8(bit_and(copies, bit), bit));
      }
      v[i] = first_bytes(v[i], left);
    }
  }
  void expect(int64_t r, int64_t c) const {
    for (int plane = 0; plane < kBits; ++plane) {
      prefetch(data + plane * plane_stride + r * row_stride + c / 32, kBlock / 8);
    }
  }
  void store(int64_t r, int64_t c, const Run& v) const {
    uint32_t* p = data + r * row_stride + c / 32;
    for (int i = 0; i < kChunks && c + i * kChunk < cols; ++i) {
      Ints codes = _mm256_slli_epi16(v[i], 8 - kBits);  // the plane's bit on top of its byte
      for (int plane = 0; plane < kBits; ++plane) {
        p[plane * plane_stride + i] = static_cast<uint32_t>(_mm256_movemask_epi8(codes));
        codes = _mm256_add_epi8(codes, codes);
      }
    }
  }
};

// Two 4-bit codes in a byte, the even column in the low half, or in the high one.
template <bool kHighFirst>
struct NibbleRows {
  uint8_t* data;
  int64_t row_stride;
  int64_t cols;

  void load(int64_t r, int64_t c, Run& v) const {
    const uint8_t* p = data + r * row_stride + c / 2;
    for (int i = 0; i < kChunks; ++i, p += kChunk / 2, c += kChunk) {
      if (cols - c >= kChunk) {
        v[i] = split(_mm256_cvtepu8_epi16(load_halves(p)));
        continue;
      }
      v[i] = no_ints();
      if (cols <= c) continue;
      alignas(16) uint8_t part[16] = {};
      std::memcpy(part, p, static_cast<size_t>((cols - c + 1) / 2));
      v[i] = first_bytes(split(_mm256_cvtepu8_epi16(load_halves(part))), cols - c);
    }
  }
  void expect(int64_t r, int64_t c) const { prefetch(data + r * row_stride + c / 2, kBlock / 2); }
  void store(int64_t r, int64_t c, const Run& v) const {
    uint8_t* p = data + r * row_stride + c / 2;
    for (int i = 0; i < kChunks && c < cols; ++i, p += kChunk / 2, c += kChunk) {
      // each pair is its dot product with (1, 16) or (16, 1)
      const Ints words = _mm256_maddubs_epi16(v[i], _mm256_set1_epi16(kHighFirst ? 0x0110 : 0x1001));
      const Halves raw = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      if (cols - c >= kChunk) {
        store_halves(p, raw);
      } else {
        alignas(16) uint8_t part[16];
        store_halves(part, raw);
        std::memcpy(p, part, static_cast<size_t>((cols - c + 1) / 2));
      }
    }
  }
  static Ints split(Ints pairs) {
    const Ints both = kHighFirst ? bit_or(_mm256_srli_epi16(pairs, 4), _mm256_slli_epi16(pairs, 8))
                                 : bit_or(pairs, _mm256_slli_epi16(pairs, 4));
    return bit_and(both, bytes(15));
  }
};

// Four 6-bit codes in three bytes, which are 24 bits of a lane on the way.
struct Packed6Rows {
  uint8_t* data;
  int64_t row_stride;
  int64_t cols;

  // The bytes of the vector that begins at column c, at most 24.
  int64_t bytes_at(int64_t c) const { return cols - c >= kChunk ? kChunk / 4 * 3 : (cols - c + 3) / 4 * 3; }

  void load(int64_t r, int64_t c, Run& v) const {
    const Ints threes =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    const uint8_t* p = data + r * row_stride + c / 4 * 3;
    for (int i = 0; i < kChunks; ++i, p += kChunk / 4 * 3, c += kChunk) {
      if (cols <= c) {
        v[i] = no_ints();
        continue;
      }
      alignas(32) uint8_t part[32] = {};
      std::memcpy(part, p, static_cast<size_t>(bytes_at(c)));
      const Ints raw = _mm256_inserti128_si256(_mm256_castsi128_si256(load_halves(part)), load_halves(part + 12), 1);
      const Ints w = _mm256_shuffle_epi8(raw, threes);
      v[i] = bit_or(
          bit_or(bit_and(w, ints(0x3f)), bit_and(_mm256_slli_epi32(w, 2), ints(0x3f00))),
          bit_or(bit_and(_mm256_slli_epi32(w, 4), ints(0x3f0000)), bit_and(_mm256_slli_epi32(w, 6), ints(0x3f000000))));
      v[i] = first_bytes(v[i], cols - c);
    }
  }
  void expect(int64_t r, int64_t c) const { prefetch(data + r * row_stride + c / 4 * 3, kBlock / 4 * 3); }
  void store(int64_t r, int64_t c, const Run& v) const {
    const Ints squeeze =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    uint8_t* p = data + r * row_stride + c / 4 * 3;
    for (int i = 0; i < kChunks && c < cols; ++i, p += kChunk / 4 * 3, c += kChunk) {
      const Ints pairs = _mm256_maddubs_epi16(v[i], _mm256_set1_epi16(0x4001));    // a + 2^6 b
      const Ints quads = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x10000001));  // ab + 2^12 cd
      const Ints raw = _mm256_shuffle_epi8(quads, squeeze);
      alignas(32) uint8_t part[32];
      store_halves(part, _mm256_castsi256_si128(raw));
      store_halves(part + 12, _mm256_extracti128_si256(raw, 1));
      std::memcpy(p, part, static_cast<size_t>(bytes_at(c)));
    }
  }
};

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
