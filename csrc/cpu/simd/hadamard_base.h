// The product with H_m over columns of vectors: the base pass of the Hadamard transform (hadamard.cpp). Static, as all
// of this folder's headers.
#pragma once

#include "cpu/simd/hadamard_passes.h"
#include "ref/galois.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// Tables of so many groups of 4 rows stand at once: up to 32 KiB.
constexpr int kTableGroups = 16;
constexpr int64_t kTable = 16 * kLanes;  // floats of one group's 16 sums over a vector of columns

// sums[p] = sum over j of (bit j of p set ? -v[j] : v[j]) for p = 0..7; sums[15 - p] is its negative.
LOWBIT_INLINE void signed_sums(Floats a, Floats b, Floats c, Floats d, Floats (&sums)[8]) {
  const Floats ab = add(a, b), a_b = sub(a, b);
  const Floats cd = add(c, d), d_c = sub(d, c);
  sums[0] = add(cd, ab);
  sums[1] = sub(cd, a_b);
  sums[2] = add(cd, a_b);
  sums[3] = sub(cd, ab);
  sums[4] = add(d_c, ab);
  sums[5] = sub(d_c, a_b);
  sums[6] = add(d_c, a_b);
  sums[7] = sub(d_c, ab);
}

struct Base {
  int m = 1;
  bool transpose = false;
  const uint8_t* signs = nullptr;  // [m][m / 4]
};

inline int64_t base_workspace(int m, int columns) { return (m + kTableGroups * 16) * columns; }

// kLanes of x from index i: the first pass of a block does its stage of distance 1 (hadamard_passes.h).
template <DType In, bool kFirst>
LOWBIT_INLINE Floats base_input(const void* x, int64_t i, const float* sign) {
  if constexpr (!kFirst) return load<In>(x, i);
  return sign ? load_paired<In, true>(x, i, sign) : load_paired<In, false>(x, i, nullptr);
}

// out = (H_m (x) I) x over kColumns columns from c: m rows of x and out `stride` apart. Every row of x is read before a
// row of out is written, so they may be the same.
template <DType In, bool kFirst, int kColumns>
void base_columns(const Base& base, const void* x, float* out, int64_t stride, int64_t first_column, const float* sign,
                  float* workspace) {
  constexpr int kVectors = kColumns / kLanes;
  float* tables = workspace;
  float* partial = workspace + kTableGroups * kTable * kVectors;  // [m][kColumns]
  const int groups = base.m / 4;
  const int parts = (groups + kTableGroups - 1) / kTableGroups;
  for (int part = 0; part < parts; ++part) {
    const int first = groups * part / parts, last = groups * (part + 1) / parts;
    for (int g = first; g < last; ++g) {
      const int64_t rows = 4 * g * stride + first_column;
      float* table = tables + (g - first) * kTable * kVectors;
      for (int c = 0; c < kVectors; ++c) {
        const auto input = [&](int r) { return base_input<In, kFirst>(x, rows + r * stride + c * kLanes, sign); };
        Floats sums[8];
        signed_sums(input(0), input(1), input(2), input(3), sums);
        LOWBIT_UNROLL
        for (int p = 0; p < 8; ++p) {
          store(table + c * kTable + p * kLanes, sums[p]);
          store(table + c * kTable + (15 - p) * kLanes, as_floats(bit_xor(as_ints(sums[p]), ints(INT32_MIN))));
        }
      }
    }
    for (int i = 0; i < base.m; i += 4) {
      Floats sum[4][kVectors];
      LOWBIT_UNROLL
      for (int r = 0; r < 4; ++r) {
        LOWBIT_UNROLL
        for (int c = 0; c < kVectors; ++c) {
          sum[r][c] = part ? load(partial + (i + r) * kColumns + c * kLanes) : no_floats();
        }
      }
      const uint8_t* signs = base.signs + static_cast<int64_t>(i) * groups;
      const float* table = tables;
      for (int g = first; g < last; ++g, table += kTable * kVectors) {
        LOWBIT_UNROLL
        for (int r = 0; r < 4; ++r) {
          const float* entry = table + signs[r * groups + g] * kLanes;
          LOWBIT_UNROLL
          for (int c = 0; c < kVectors; ++c) {
            sum[r][c] = add(sum[r][c], load(entry + c * kTable));
          }
        }
      }
      LOWBIT_UNROLL
      for (int r = 0; r < 4; ++r) {
        LOWBIT_UNROLL
        for (int c = 0; c < kVectors; ++c) {
          float* to = part + 1 < parts ? partial + (i + r) * kColumns : out + (i + r) * stride + first_column;
          store(to + c * kLanes, sum[r][c]);
        }
      }
    }
  }
}

// The sign patterns of a matrix that a kernel has as a constant.
template <int m>
struct Patterns {
  uint8_t of[m][m / 4] = {};
};

template <int m, bool kTranspose>
constexpr Patterns<m> paley1_patterns() {
  Patterns<m> p;
  const Field field(prime_power(m - 1));
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < m; ++j) {
      if ((kTranspose ? paley1(field, j, i) : paley1(field, i, j)) < 0) p.of[i][j / 4] |= 1 << (j % 4);
    }
  }
  return p;
}

// base_columns for the small orders of Paley's first kind, the sums in registers instead of a table.
template <DType In, bool kFirst, int m, bool kTranspose>
void base_constant(const void* x, float* out, int64_t stride, const float* sign) {
  static constexpr Patterns<m> kPatterns = paley1_patterns<m, kTranspose>();
  for (int64_t c = 0; c < stride; c += kLanes) {
    Floats sums[m / 4][8];
    LOWBIT_UNROLL
    for (int g = 0; g < m / 4; ++g) {
      const auto input = [&](int r) { return base_input<In, kFirst>(x, (4 * g + r) * stride + c, sign); };
      signed_sums(input(0), input(1), input(2), input(3), sums[g]);
    }
#pragma GCC unroll 32
    for (int i = 0; i < m; ++i) {
      // begins with a group that is added as it stands
      int begin = 0;
      while (begin < m / 4 - 1 && kPatterns.of[i][begin] >= 8) ++begin;
      const int p = kPatterns.of[i][begin];
      Floats sum = p < 8 ? sums[begin][p] : sub(no_floats(), sums[begin][15 - p]);
      LOWBIT_UNROLL
      for (int g = 0; g < m / 4; ++g) {
        if (g == begin) continue;
        const int q = kPatterns.of[i][g];
        sum = q < 8 ? add(sum, sums[g][q]) : sub(sum, sums[g][15 - q]);
      }
      store(out + i * stride + c, sum);
    }
  }
}

// The base pass over m rows of `stride` columns, a multiple of kLanes.
template <DType In, bool kFirst>
void multiply_base(const Base& base, const void* x, float* out, int64_t stride, const float* sign, float* workspace) {
#define CONSTANT(order)                                                                  \
  case order:                                                                            \
    return base.transpose ? base_constant<In, kFirst, order, true>(x, out, stride, sign) \
                          : base_constant<In, kFirst, order, false>(x, out, stride, sign);
  switch (base.m) {
    CONSTANT(12)
    CONSTANT(20)
    CONSTANT(28)
    default: break;
  }
#undef CONSTANT
  int64_t c = 0;
  for (; c + 2 * kLanes <= stride; c += 2 * kLanes) {
    base_columns<In, kFirst, 2 * kLanes>(base, x, out, stride, c, sign, workspace);
  }
  for (; c < stride; c += kLanes) base_columns<In, kFirst, kLanes>(base, x, out, stride, c, sign, workspace);
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
