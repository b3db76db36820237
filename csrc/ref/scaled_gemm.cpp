#include "ref/scaled_gemm.h"

#include "ref/float_path.h"
#include "ref/joined_gemm.h"

namespace lowbit::ref {
namespace {

struct Int16Path {
  using Element = int16_t;
  using Sum = int64_t;

  static int64_t elements(const Rows& rows) { return rows.cols(); }

  static void load(const Rows& rows, int64_t r, const std::vector<int64_t>&, int16_t* out) {
    rows.integers(r, 0, rows.cols(), out);
  }

  // Integers are at most 255 in magnitude: 32768 products fit in 32 bits.
  static int64_t dot(const Rows&, const Rows&, const int16_t* x, const int16_t* w, int64_t k0, int64_t k1) {
    int64_t total = 0;
    for (; k0 < k1; k0 += 32768) {
      const int64_t stop = std::min(k1, k0 + 32768);
      int32_t sum = 0;
      for (int64_t k = k0; k < stop; ++k) sum += static_cast<int32_t>(x[k]) * w[k];
      total += sum;
    }
    return total;
  }

  static int64_t sum(const Rows&, const int16_t* row, int64_t k0, int64_t k1) {
    int64_t total = 0;
    for (int64_t k = k0; k < k1; ++k) total += row[k];
    return total;
  }
};

}  // namespace

Status scaled_gemm(const GemmArgs& args, const Parallel& parallel) {
  return is_integer_path(args) ? JoinedGemm<Int16Path>(args).run(parallel) : float_path(args, parallel);
}

}  // namespace lowbit::ref
