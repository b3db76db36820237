// Rows of codes from one layout to another, and the check of codes that come in.
#pragma once

#include <atomic>
#include <type_traits>

#include "common/parallel.h"
#include "cpu/avx512/code_rows.h"
#include "formats/format.h"

namespace lowbit::avx512 {
namespace {

// Rows in a piece of work: enough elements to be worth a thread.
inline int64_t row_grain(int64_t cols) { return 1 + 65536 / (cols + 1); }

// Calls f with `bits` as a constant.
template <class F>
void with_bits(int bits, F f) {
  switch (bits) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    case 5: return f(std::integral_constant<int, 5>());
    case 6: return f(std::integral_constant<int, 6>());
    case 7: return f(std::integral_constant<int, 7>());
    default: return f(std::integral_constant<int, 8>());
  }
}

template <class From, class To>
void copy_rows(const From& from, const To& to, int64_t rows, int64_t cols, const Parallel& parallel) {
  parallel(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; c += kBlock) {
        Run v;
        from.load(r, c, v);
        to.store(r, c, v);
      }
    }
  });
}

// Sees whether plain codes are codes of the format while they are packed.
struct Watch {
  __m512i above;  // the bits that no code has
  __m512i ternary;
  __m512i bad = _mm512_setzero_si512();

  explicit Watch(const ElementFormat& f)
      : above(_mm512_set1_epi8(static_cast<char>(0xff << f.bits))),
        ternary(_mm512_set1_epi8(f.is_int() && f.rule == kTernary ? 1 : 0)) {}

  void see(__m512i codes) {
    bad = _mm512_or_si512(bad, _mm512_and_si512(codes, above));
    // of a ternary code the high bit never stands alone
    const __m512i alone = _mm512_andnot_si512(codes, _mm512_srli_epi16(codes, 1));
    bad = _mm512_or_si512(bad, _mm512_and_si512(alone, ternary));
  }
  bool good() const { return _mm512_test_epi8_mask(bad, bad) == 0; }
};

// Packs row by row; false when a byte is no code.
template <class To>
bool pack_rows(const ElementFormat& f, const ByteRows<8>& from, const To& to, int64_t rows, const Parallel& parallel) {
  std::atomic<bool> good{true};
  parallel(rows, row_grain(from.cols), [&](int64_t begin, int64_t end) {
    Watch watch(f);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < from.cols; c += kBlock) {
        Run v;
        from.load(r, c, v);
        for (const __m512i& codes : v) watch.see(codes);
        to.store(r, c, v);
      }
    }
    if (!watch.good()) good.store(false);
  });
  return good.load();
}

}  // namespace
}  // namespace lowbit::avx512
