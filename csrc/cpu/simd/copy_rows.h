// Rows of codes from one layout to another, and the check of codes that come in. Static, as all of
// this folder's headers.
#pragma once

#include <atomic>
#include <type_traits>

#include "common/parallel.h"
#include "cpu/simd/code_rows.h"
#include "formats/format.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
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
  Ints above;  // the bits that no code has
  Ints ternary;
  Ints bad = no_ints();

  explicit Watch(const ElementFormat& f)
      : above(bytes(0xff << f.bits)), ternary(bytes(f.is_int() && f.rule == kTernary ? 1 : 0)) {}

  void see(Ints codes) {
    bad = bit_or(bad, bit_and(codes, above));
    // of a ternary code the high bit never stands alone
    bad = bit_or(bad, bit_and(bit_andnot(codes, shift_words_right(codes, 1)), ternary));
  }
  bool good() const { return !any_bit(bad); }
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
        for (const Ints& codes : v) watch.see(codes);
        to.store(r, c, v);
      }
    }
    if (!watch.good()) good.store(false);
  });
  return good.load();
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
