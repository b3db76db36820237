// Hadamard matrices of order m = 1 or 4t: entries +-1, H H^T = m I. One matrix per order, fixed for ever, because
// rotated weights are stored. An order takes the first construction that fits it:
//
//   Paley I    m = q + 1, q = 3 mod 4 a prime power:      H = I + S, S = [0 1; -1 Q], Q(i, j) = chi(x_j - x_i)
//   Paley II   m = 2 (q + 1), q = 1 mod 4 a prime power:  H = C (x) [1 1; 1 -1] + I (x) [1 -1; -1 -1], C = [0 1; 1 Q]
//   Goethals-Seidel  m = 4t, from four +-1 sequences of length t whose periodic autocorrelations cancel:
//              [A BR CR DR; -BR A -D'R C'R; -CR D'R A -B'R; -DR -C'R B'R A], A(i, j) = a[j - i mod t], R the
//              reversal; the sequences are in hadamard_matrix.cpp. Symmetric ones are Williamson's.
//
// chi is the quadratic character of GF(q). Its elements are the numbers 0..q-1 read as polynomials over GF(p) in base
// p, constant term last; the modulus is the primitive polynomial x^e + f whose f is the least such number.
// Sources: Paley 1933; Williamson 1944; Goethals and Seidel 1970.
#pragma once

#include <cstdint>
#include <vector>

namespace lowbit {

constexpr int64_t kMaxHadamard = 65536;
// The largest order that is multiplied densely: additions an element grow with it.
constexpr int kMaxHadamardBase = 1024;

struct HadamardMatrix {
  int order = 1;
  // Signs of H and of its transpose, row after row, a byte for 4 columns: bit j of [i * order / 4 + g] is set where
  // entry (i, 4g + j) is -1. Empty for order 1.
  std::vector<uint8_t> signs, transposed_signs;

  bool negative(int i, int j) const { return (signs[(i * order + j) / 4] >> (j % 4)) & 1; }
};

// n = base * 2^log2 with a Hadamard matrix of order `base`, the smallest one there is.
struct HadamardSize {
  int base = 0;  // 0: none
  int log2 = 0;
};
HadamardSize hadamard_size(int64_t n);

// The matrix of an order that hadamard_size gave. Built at first use, kept for ever.
const HadamardMatrix& hadamard_matrix(int order);

}  // namespace lowbit
