// The orders of other libraries. Byte orders go row by row; GPTQ and AWQ words run down the rows of the matrix, so
// these are packed in 16 x 16 words and transposed.
#include "cpu/avx512/copy_rows.h"
#include "cpu/avx512/pack.h"
#include "cpu/dispatch.h"

namespace lowbit::avx512 {
namespace {

constexpr int64_t kWords = 16;  // on a side of a transposed square

inline __mmask16 first_words(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1 << n) - 1); }

// Masked stores are slow where nothing needs them.
inline void store_words(uint32_t* p, int64_t n, __m512i v) {
  if (n >= kWords) {
    _mm512_storeu_si512(p, v);
  } else {
    _mm512_mask_storeu_epi32(p, first_words(n), v);
  }
}
// Also asks for the words after these, which the next square of rows reads: lines lie too far apart for the processor
// to see what comes next.
inline __m512i load_words(const uint32_t* p, int64_t n) {
  if (n > kWords) _mm_prefetch(reinterpret_cast<const char*>(p + kWords), _MM_HINT_T1);
  return n >= kWords ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(first_words(n), p);
}

// 64 codes of 4 bits in 32 bytes, the even one low, and back.
inline __m256i join4(__m512i codes) {
  return _mm512_cvtepi16_epi8(_mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x1001)));
}
inline __m512i split4(__m256i bytes) {
  const __m512i pairs = _mm512_cvtepu8_epi16(bytes);
  return _mm512_and_si512(_mm512_or_si512(pairs, _mm512_slli_epi16(pairs, 4)), _mm512_set1_epi8(15));
}
// 64 codes of 2 bits in 16 bytes, the first one low, and back.
inline __m128i join2(__m512i codes) {
  const __m512i pairs = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x0401));          // a + 4 b
  return _mm512_cvtepi32_epi8(_mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00100001)));  // + 16 (c + 4 d)
}
inline __m512i split2(__m128i bytes) {
  const __m512i shifts = _mm512_set1_epi64(0x2624222006040200);  // 0, 2, 4, 6 of either 32-bit half
  return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu8_epi32(bytes)), _mm512_set1_epi8(3));
}

// The codes of a row of 16 words, from or to `left` bytes at p.
template <int kBits>
inline __m512i join_words(const uint8_t* p, int64_t left, Watch* watch) {
  __m512i v[8 / kBits];
  for (int i = 0; i < 8 / kBits; ++i) {
    v[i] = left > i * kChunk ? load_first(p + i * kChunk, left - i * kChunk) : _mm512_setzero_si512();
    watch->see(v[i]);
  }
  if constexpr (kBits == 8) {
    return v[0];
  } else if constexpr (kBits == 4) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(join4(v[0])), join4(v[1]), 1);
  } else {
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(join2(v[0])), join2(v[1]), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(join2(v[2])), join2(v[3]), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
}
template <int kBits>
inline void split_words(__m512i words, uint8_t* p, int64_t left) {
  if constexpr (kBits == 8) {
    store_first(p, left, words);
  } else if constexpr (kBits == 4) {
    store_first(p, left, split4(_mm512_castsi512_si256(words)));
    if (left > kChunk) store_first(p + kChunk, left - kChunk, split4(_mm512_extracti64x4_epi64(words, 1)));
  } else {
    store_first(p, left, split2(_mm512_castsi512_si128(words)));
    if (left > kChunk) store_first(p + kChunk, left - kChunk, split2(_mm512_extracti32x4_epi32(words, 1)));
    if (left > 2 * kChunk) store_first(p + 2 * kChunk, left - 2 * kChunk, split2(_mm512_extracti32x4_epi32(words, 2)));
    if (left > 3 * kChunk) store_first(p + 3 * kChunk, left - 3 * kChunk, split2(_mm512_extracti32x4_epi32(words, 3)));
  }
}

// GPTQ, out [lines, rows]: word (q, r) holds 32 / kBits columns of row r.
template <int kBits>
bool pack_gptq(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols,
               uint32_t* out, const Parallel& parallel) {
  constexpr int64_t kPer = 32 / kBits;
  const int64_t lines = (cols + kPer - 1) / kPer;
  std::atomic<bool> good{true};
  parallel((rows + kWords - 1) / kWords, row_grain(cols * kWords), [&](int64_t begin, int64_t end) {
    Watch watch(f);
    for (int64_t r = begin * kWords; r < end * kWords && r < rows; r += kWords) {
      for (int64_t q = 0; q < lines; q += kWords) {
        __m512i v[16];
        for (int64_t i = 0; i < kWords; ++i) {
          const int64_t row = r + i;
          v[i] = row < rows ? join_words<kBits>(codes + row * row_stride + q * kPer, cols - q * kPer, &watch)
                            : _mm512_setzero_si512();
        }
        transpose16(v);
        for (int64_t i = 0; i < kWords && q + i < lines; ++i) {
          store_words(out + (q + i) * rows + r, rows - r, v[i]);
        }
      }
    }
    if (!watch.good()) good.store(false);
  });
  return good.load();
}

template <int kBits>
void unpack_gptq(const uint32_t* packed, int64_t rows, int64_t cols, uint8_t* out, const Parallel& parallel) {
  constexpr int64_t kPer = 32 / kBits;
  const int64_t lines = (cols + kPer - 1) / kPer;
  parallel((rows + kWords - 1) / kWords, row_grain(cols * kWords), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * kWords; r < end * kWords && r < rows; r += kWords) {
      for (int64_t q = 0; q < lines; q += kWords) {
        __m512i v[16];
        for (int64_t i = 0; i < kWords; ++i) {
          v[i] = q + i < lines ? load_words(packed + (q + i) * rows + r, rows - r) : _mm512_setzero_si512();
        }
        transpose16(v);
        for (int64_t i = 0; i < kWords && r + i < rows; ++i) {
          split_words<kBits>(v[i], out + (r + i) * cols + q * kPer, cols - q * kPer);
        }
      }
    }
  });
}

// AWQ, out [cols, rows / 8]: word (c, q) holds column c of rows 8 q + 0, 2, 4, 6, 1, 3, 5, 7. A piece is 64 columns of
// 128 rows. Byte k of a word, row pair k, is a register of 64 columns; interleaved, register m of the four has the
// words of columns 16 j + 4 m + 0 .. 3 in its 128-bit lane j.
constexpr int kAwqRow[] = {0, 2, 4, 6, 1, 3, 5, 7};

inline int64_t awq_column(int m, int lane32) { return lane32 / 4 * 16 + 4 * m + lane32 % 4; }

inline void interleave(const __m512i (&y)[4], __m512i (&words)[4]) {
  const __m512i low01 = _mm512_unpacklo_epi8(y[0], y[1]), high01 = _mm512_unpackhi_epi8(y[0], y[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(y[2], y[3]), high23 = _mm512_unpackhi_epi8(y[2], y[3]);
  words[0] = _mm512_unpacklo_epi16(low01, low23);
  words[1] = _mm512_unpackhi_epi16(low01, low23);
  words[2] = _mm512_unpacklo_epi16(high01, high23);
  words[3] = _mm512_unpackhi_epi16(high01, high23);
}
inline void separate(const __m512i (&words)[4], __m512i (&y)[4]) {
  const __m512i by_byte = _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  __m512i v[4];
  for (int m = 0; m < 4; ++m) v[m] = _mm512_shuffle_epi8(words[m], by_byte);
  const __m512i low01 = _mm512_unpacklo_epi32(v[0], v[1]), high01 = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(v[2], v[3]), high23 = _mm512_unpackhi_epi32(v[2], v[3]);
  y[0] = _mm512_unpacklo_epi64(low01, low23);
  y[1] = _mm512_unpackhi_epi64(low01, low23);
  y[2] = _mm512_unpacklo_epi64(high01, high23);
  y[3] = _mm512_unpackhi_epi64(high01, high23);
}

bool pack_awq(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols,
              uint32_t* out, const Parallel& parallel) {
  const int64_t units = rows / 8;
  std::atomic<bool> good{true};
  parallel((units + kWords - 1) / kWords, row_grain(cols * 8 * kWords), [&](int64_t begin, int64_t end) {
    Watch watch(f);
    for (int64_t q = begin * kWords; q < end * kWords && q < units; q += kWords) {
      for (int64_t c = 0; c < cols; c += kChunk) {
        __m512i square[4][16];
        for (int64_t i = 0; i < kWords; ++i) {
          __m512i y[4], words[4];
          for (int k = 0; k < 4; ++k) {
            y[k] = _mm512_setzero_si512();
            if (q + i >= units) continue;
            const uint8_t* p = codes + (q + i) * 8 * row_stride + c;
            if (cols - c > kChunk) {
              _mm_prefetch(reinterpret_cast<const char*>(p + kAwqRow[2 * k] * row_stride + kChunk), _MM_HINT_T1);
              _mm_prefetch(reinterpret_cast<const char*>(p + kAwqRow[2 * k + 1] * row_stride + kChunk), _MM_HINT_T1);
            }
            const __m512i low = load_first(p + kAwqRow[2 * k] * row_stride, cols - c);
            const __m512i high = load_first(p + kAwqRow[2 * k + 1] * row_stride, cols - c);
            watch.see(low);
            watch.see(high);
            y[k] = _mm512_or_si512(low, _mm512_slli_epi16(high, 4));
          }
          interleave(y, words);
          for (int m = 0; m < 4; ++m) square[m][i] = words[m];
        }
        for (int m = 0; m < 4; ++m) {
          transpose16(square[m]);
          for (int i = 0; i < kWords; ++i) {
            const int64_t column = c + awq_column(m, i);
            if (column < cols) store_words(out + column * units + q, units - q, square[m][i]);
          }
        }
      }
    }
    if (!watch.good()) good.store(false);
  });
  return good.load();
}

void unpack_awq(const uint32_t* packed, int64_t rows, int64_t cols, uint8_t* out, const Parallel& parallel) {
  const int64_t units = rows / 8;
  parallel((units + kWords - 1) / kWords, row_grain(cols * 8 * kWords), [&](int64_t begin, int64_t end) {
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int64_t q = begin * kWords; q < end * kWords && q < units; q += kWords) {
      for (int64_t c = 0; c < cols; c += kChunk) {
        __m512i square[4][16];
        for (int m = 0; m < 4; ++m) {
          for (int i = 0; i < kWords; ++i) {
            const int64_t column = c + awq_column(m, i);
            square[m][i] = column < cols ? load_words(packed + column * units + q, units - q) : _mm512_setzero_si512();
          }
          transpose16(square[m]);
        }
        for (int64_t i = 0; i < kWords && q + i < units; ++i) {
          __m512i y[4];
          const __m512i words[4] = {square[0][i], square[1][i], square[2][i], square[3][i]};
          separate(words, y);
          uint8_t* p = out + (q + i) * 8 * cols + c;
          for (int k = 0; k < 4; ++k) {
            store_first(p + kAwqRow[2 * k] * cols, cols - c, _mm512_and_si512(y[k], nibble));
            store_first(p + kAwqRow[2 * k + 1] * cols, cols - c, _mm512_and_si512(_mm512_srli_epi16(y[k], 4), nibble));
          }
        }
      }
    }
  });
}

}  // namespace

Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Parallel& parallel) {
  const ByteRows<8> from{const_cast<uint8_t*>(codes), row_stride, cols};
  auto* bytes = static_cast<uint8_t*>(out);
  auto* words = static_cast<uint32_t*>(out);
  const int64_t pitch = (cols + 1) / 2;
  bool good = true;
  switch (order) {
    case Order::kPlain: good = pack_rows(f, from, ByteRows<8>{bytes, cols, cols}, rows, parallel); break;
    case Order::kNibbleLow: good = pack_rows(f, from, NibbleRows<false>{bytes, pitch, cols}, rows, parallel); break;
    case Order::kNibbleHigh: good = pack_rows(f, from, NibbleRows<true>{bytes, pitch, cols}, rows, parallel); break;
    case Order::kAwq: good = pack_awq(f, codes, row_stride, rows, cols, words, parallel); break;
    case Order::kGptq:
      good = f.bits == 2   ? pack_gptq<2>(f, codes, row_stride, rows, cols, words, parallel)
             : f.bits == 4 ? pack_gptq<4>(f, codes, row_stride, rows, cols, words, parallel)
                           : pack_gptq<8>(f, codes, row_stride, rows, cols, words, parallel);
      break;
  }
  // the reference finds the first that is no code, and says so
  if (!good) return ref::pack_order(order, f, codes, row_stride, rows, cols, out, parallel);
  cpu::ran("pack:avx512");
  return Status();
}

Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Parallel& parallel) {
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(packed));
  const auto* words = static_cast<const uint32_t*>(packed);
  const int64_t pitch = (cols + 1) / 2;
  const ByteRows<8> to{out, cols, cols};
  switch (order) {
    case Order::kPlain:
      with_bits(f.bits, [&](auto bits) {
        copy_rows(ByteRows<decltype(bits)::value>{bytes, cols, cols}, to, rows, cols, parallel);
      });
      break;
    case Order::kNibbleLow: copy_rows(NibbleRows<false>{bytes, pitch, cols}, to, rows, cols, parallel); break;
    case Order::kNibbleHigh: copy_rows(NibbleRows<true>{bytes, pitch, cols}, to, rows, cols, parallel); break;
    case Order::kAwq: unpack_awq(words, rows, cols, out, parallel); break;
    case Order::kGptq:
      if (f.bits == 2) unpack_gptq<2>(words, rows, cols, out, parallel);
      if (f.bits == 4) unpack_gptq<4>(words, rows, cols, out, parallel);
      if (f.bits == 8) unpack_gptq<8>(words, rows, cols, out, parallel);
      break;
  }
  cpu::ran("unpack:avx512");
  return Status();
}

}  // namespace lowbit::avx512
