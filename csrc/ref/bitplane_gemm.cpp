#include "ref/bitplane_gemm.h"

#include "ref/joined_gemm.h"

namespace lowbit::ref {
namespace {

int64_t popcount(uint64_t v) {
  v = v - (v >> 1 & 0x5555555555555555u);
  v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
  return static_cast<int64_t>(((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

// value = multiply * sum_i weight(i) * plane_i + add, plane 0 least significant
struct Planes {
  explicit Planes(const ElementFormat& f) : bits(f.bits), top_negative(f.rule != kUnsigned && f.rule != kBipolar) {
    if (f.rule == kBipolar) multiply = 2, add = 1 - (1 << bits);
  }
  int64_t weight(int i) const { return top_negative && i == bits - 1 ? -(int64_t{1} << i) : int64_t{1} << i; }

  int bits;
  bool top_negative;  // two's complement; the planes of complex weights are those of -1, 0, +1
  int64_t multiply = 1, add = 0;
};

// The bits of columns [k0, k1) within 64-bit word i.
uint64_t mask(int64_t i, int64_t k0, int64_t k1) {
  uint64_t bits = ~uint64_t{0};
  if (i == k0 / 64) bits &= ~uint64_t{0} << (k0 % 64);
  if (i == (k1 - 1) / 64) bits &= ~uint64_t{0} >> (63 - (k1 - 1) % 64);
  return bits;
}

// A row is `bits` planes of words(cols) 64-bit words, least significant plane first.
struct PlanePath {
  using Element = uint64_t;
  using Sum = int64_t;

  static int64_t words(const Rows& rows) { return ceil_div(rows.cols(), 64); }
  static int64_t elements(const Rows& rows) { return Planes(*rows.matrix().codes.format).bits * words(rows); }

  static void load(const Rows& rows, int64_t r, const std::vector<int64_t>&, uint64_t* out) {
    const Planes p(*rows.matrix().codes.format);
    uint8_t codes[64];
    for (int64_t i = 0; i < words(rows); ++i) {
      const int64_t n = std::min<int64_t>(64, rows.cols() - 64 * i);
      rows.codes(r, 64 * i, 64 * i + n, codes);
      for (int b = 0; b < p.bits; ++b) {
        uint64_t word = 0;
        for (int64_t j = 0; j < n; ++j) word |= static_cast<uint64_t>(codes[j] >> b & 1u) << j;
        out[b * words(rows) + i] = word;
      }
    }
  }

  // sum_k (a_w W_k + b_w)(a_x X_k + b_x), W and X the weighted sums of the planes
  static int64_t dot(const Rows& x, const Rows& w, const uint64_t* x_row, const uint64_t* w_row, int64_t k0,
                     int64_t k1) {
    const Planes px(*x.matrix().codes.format), pw(*w.matrix().codes.format);
    const int64_t stride = words(x);
    int64_t product = 0;
    for (int i = 0; i < pw.bits; ++i) {
      for (int j = 0; j < px.bits; ++j) {
        int64_t ones = 0;
        for (int64_t v = k0 / 64; v <= (k1 - 1) / 64; ++v) {
          ones += popcount(w_row[i * stride + v] & x_row[j * stride + v] & mask(v, k0, k1));
        }
        product += pw.weight(i) * px.weight(j) * ones;
      }
    }
    product *= pw.multiply * px.multiply;
    if (px.add != 0) product += px.add * pw.multiply * plane_sum(pw, stride, w_row, k0, k1);
    if (pw.add != 0) product += pw.add * px.multiply * plane_sum(px, stride, x_row, k0, k1);
    return product + (k1 - k0) * pw.add * px.add;
  }

  static int64_t sum(const Rows& rows, const uint64_t* row, int64_t k0, int64_t k1) {
    const Planes p(*rows.matrix().codes.format);
    return p.multiply * plane_sum(p, words(rows), row, k0, k1) + (k1 - k0) * p.add;
  }

 private:
  static int64_t plane_sum(const Planes& p, int64_t stride, const uint64_t* row, int64_t k0, int64_t k1) {
    int64_t total = 0;
    for (int i = 0; i < p.bits; ++i) {
      int64_t ones = 0;
      for (int64_t v = k0 / 64; v <= (k1 - 1) / 64; ++v) ones += popcount(row[i * stride + v] & mask(v, k0, k1));
      total += p.weight(i) * ones;
    }
    return total;
  }
};

}  // namespace

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel) {
  return JoinedGemm<PlanePath>(args).run(parallel);
}

}  // namespace lowbit::ref
