// The orders of other libraries. Byte orders go row by row; GPTQ and AWQ words run down the rows of the matrix, so
// these are packed in squares of kLanes x kLanes words and transposed.
#include "cpu/dispatch.h"
#include "cpu/simd/copy_rows.h"
#include "cpu/simd/join_codes.h"
#include "cpu/simd/pack.h"
#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

constexpr int64_t kWords = kLanes;  // on a side of a transposed square

// Also asks for the words after these, which the next square of rows reads: lines lie too far apart for the processor
// to see what comes next.
LOWBIT_INLINE Ints load_words(const uint32_t* p, int64_t n) {
  if (n > kWords) _mm_prefetch(reinterpret_cast<const char*>(p + kWords), _MM_HINT_T1);
  return n >= kWords ? load_ints(p) : load_ints(p, n);
}
// Masked stores are slow where nothing needs them.
LOWBIT_INLINE void store_words(uint32_t* p, int64_t n, Ints v) { n >= kWords ? store_ints(p, v) : store_ints(p, n, v); }

// The codes of a row of kWords words, from or to `left` bytes at p.
template <int kBits>
LOWBIT_INLINE Ints join_words(const uint8_t* p, int64_t left, Watch* watch) {
  Ints v[8 / kBits];
  for (int i = 0; i < 8 / kBits; ++i) {
    v[i] = left > i * kChunk ? load_bytes(p + i * kChunk, left - i * kChunk) : no_ints();
    watch->see(v[i]);
  }
  return join_codes<kBits>(v);
}
template <int kBits>
LOWBIT_INLINE void split_words(Ints words, uint8_t* p, int64_t left) {
  Ints v[8 / kBits];
  split_codes<kBits>(words, v);
  for (int i = 0; i < 8 / kBits && left > i * kChunk; ++i) store_bytes(p + i * kChunk, left - i * kChunk, v[i]);
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
        Ints v[kLanes];
        for (int64_t i = 0; i < kWords; ++i) {
          const int64_t row = r + i;
          v[i] =
              row < rows ? join_words<kBits>(codes + row * row_stride + q * kPer, cols - q * kPer, &watch) : no_ints();
        }
        transpose(v);
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
        Ints v[kLanes];
        for (int64_t i = 0; i < kWords; ++i) {
          v[i] = q + i < lines ? load_words(packed + (q + i) * rows + r, rows - r) : no_ints();
        }
        transpose(v);
        for (int64_t i = 0; i < kWords && r + i < rows; ++i) {
          split_words<kBits>(v[i], out + (r + i) * cols + q * kPer, cols - q * kPer);
        }
      }
    }
  });
}

// AWQ, out [cols, rows / 8]: word (c, q) holds column c of rows 8 q + 0, 2, 4, 6, 1, 3, 5, 7. A piece is kChunk columns
// of 8 kWords rows. Byte k of a word, row pair k, is a vector of columns; interleaved, vector m of the four has the
// words of columns 16 j + 4 m + 0 .. 3 in its 128-bit part j.
constexpr int kAwqRow[] = {0, 2, 4, 6, 1, 3, 5, 7};

inline int64_t awq_column(int m, int lane32) { return lane32 / 4 * 16 + 4 * m + lane32 % 4; }

bool pack_awq(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols,
              uint32_t* out, const Parallel& parallel) {
  const int64_t units = rows / 8;
  std::atomic<bool> good{true};
  parallel((units + kWords - 1) / kWords, row_grain(cols * 8 * kWords), [&](int64_t begin, int64_t end) {
    Watch watch(f);
    for (int64_t q = begin * kWords; q < end * kWords && q < units; q += kWords) {
      for (int64_t c = 0; c < cols; c += kChunk) {
        Ints square[4][kLanes];
        for (int64_t i = 0; i < kWords; ++i) {
          Ints y[4], words[4];
          for (int k = 0; k < 4; ++k) {
            y[k] = no_ints();
            if (q + i >= units) continue;
            const uint8_t* p = codes + (q + i) * 8 * row_stride + c;
            if (cols - c > kChunk) {
              _mm_prefetch(reinterpret_cast<const char*>(p + kAwqRow[2 * k] * row_stride + kChunk), _MM_HINT_T1);
              _mm_prefetch(reinterpret_cast<const char*>(p + kAwqRow[2 * k + 1] * row_stride + kChunk), _MM_HINT_T1);
            }
            const Ints low = load_bytes(p + kAwqRow[2 * k] * row_stride, cols - c);
            const Ints high = load_bytes(p + kAwqRow[2 * k + 1] * row_stride, cols - c);
            watch.see(low);
            watch.see(high);
            y[k] = bit_or(low, shift_words_left(high, 4));
          }
          interleave_bytes(y, words);
          for (int m = 0; m < 4; ++m) square[m][i] = words[m];
        }
        for (int m = 0; m < 4; ++m) {
          transpose(square[m]);
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
    const Ints nibble = bytes(15);
    for (int64_t q = begin * kWords; q < end * kWords && q < units; q += kWords) {
      for (int64_t c = 0; c < cols; c += kChunk) {
        Ints square[4][kLanes];
        for (int m = 0; m < 4; ++m) {
          for (int i = 0; i < kWords; ++i) {
            const int64_t column = c + awq_column(m, i);
            square[m][i] = column < cols ? load_words(packed + column * units + q, units - q) : no_ints();
          }
          transpose(square[m]);
        }
        for (int64_t i = 0; i < kWords && q + i < units; ++i) {
          Ints y[4];
          const Ints words[4] = {square[0][i], square[1][i], square[2][i], square[3][i]};
          separate_bytes(words, y);
          uint8_t* p = out + (q + i) * 8 * cols + c;
          for (int k = 0; k < 4; ++k) {
            store_bytes(p + kAwqRow[2 * k] * cols, cols - c, bit_and(y[k], nibble));
            store_bytes(p + kAwqRow[2 * k + 1] * cols, cols - c, bit_and(shift_words_right(y[k], 4), nibble));
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
  cpu::ran(LOWBIT_KERNEL("pack"));
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
  cpu::ran(LOWBIT_KERNEL("unpack"));
  return Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
