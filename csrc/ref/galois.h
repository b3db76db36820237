// Finite fields GF(q), q odd and below 1024, as far as Paley's constructions need them (hadamard_matrix.h): the
// quadratic character of a difference. constexpr, so that a kernel can have its matrix as a constant.
#pragma once

#include <cstdint>

namespace lowbit {

// q = p^e; p is 0 where q is no prime power.
struct PrimePower {
  int p = 0;
  int e = 0;
};

constexpr PrimePower prime_power(int q) {
  if (q < 2) return {};
  int p = 2;
  while (p * p <= q && q % p) ++p;
  if (q % p) p = q;
  int e = 0;
  for (; q % p == 0; q /= p) ++e;
  return q == 1 ? PrimePower{p, e} : PrimePower{};
}

class Field {
 public:
  constexpr explicit Field(PrimePower q) : p_(q.p), top_(1) {
    for (int i = 1; i < q.e; ++i) top_ *= p_;
    const int size = top_ * p_;
    bool primitive = false;
    for (int f = 1; !primitive; ++f) {  // a primitive polynomial of every degree exists
      int power = 1, k = 0;
      do {
        chi_[power] = static_cast<int8_t>(k % 2 ? -1 : 1);  // the even powers of a generator are the squares
        power = times_x(power, f);
        ++k;
      } while (power > 1 && k < size);
      primitive = power == 1 && k == size - 1;
    }
    chi_[0] = 0;
  }

  // The quadratic character of a - b: 1 for a square, -1 for a non-square, 0 for zero.
  constexpr int chi_of_difference(int a, int b) const { return chi_[combine(a, b, -1)]; }

 private:
  // a + factor * b, digit by digit.
  constexpr int combine(int a, int b, int factor) const {
    int sum = 0;
    for (int digit = 1; digit <= top_; digit *= p_) {
      const int d = (a / digit % p_ + factor * (b / digit % p_)) % p_;
      sum += (d < 0 ? d + p_ : d) * digit;
    }
    return sum;
  }

  // a * x modulo x^e + f.
  constexpr int times_x(int a, int f) const { return combine(a % top_ * p_, f, -(a / top_)); }

  int p_;
  int top_;  // p^(e - 1)
  int8_t chi_[1024] = {};
};

// Entry (i, j) of the matrix [0 1; corner Q] of order q + 1, with `diagonal` on its diagonal.
constexpr int bordered(const Field& field, int i, int j, int corner, int diagonal) {
  if (i == j) return diagonal;
  if (i == 0) return 1;
  return j == 0 ? corner : field.chi_of_difference(j - 1, i - 1);
}

// Entry (i, j) of Paley's first matrix of order q + 1.
constexpr int paley1(const Field& field, int i, int j) { return bordered(field, i, j, -1, 1); }

}  // namespace lowbit
