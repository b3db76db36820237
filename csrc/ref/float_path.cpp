#include "ref/float_path.h"

#include "ref/joined_gemm.h"

namespace lowbit::ref {
namespace {

struct FloatPath {
  using Element = float;
  using Sum = float;

  static int64_t elements(const Rows& rows) { return rows.cols(); }

  static void load(const Rows& rows, int64_t r, const std::vector<int64_t>& ends, float* out) {
    rows.values(r, 0, rows.cols(), out);
    if (!rows.quantized() || !rows.matrix().zero) return;
    int64_t k0 = 0;
    for (const int64_t k1 : ends) {
      const float zero = rows.zero(r, k0);
      for (int64_t k = k0; k < k1; ++k) out[k] -= zero;
      k0 = k1;
    }
  }

  // 16 running sums, element k of a segment in sum k % 16, added pairwise at the end.
  static float dot(const Rows&, const Rows&, const float* x, const float* w, int64_t k0, int64_t k1) {
    float sums[16] = {};
    int64_t k = k0;
    for (; k + 16 <= k1; k += 16) {
      for (int i = 0; i < 16; ++i) sums[i] += x[k + i] * w[k + i];
    }
    for (int i = 0; k < k1; ++k, ++i) sums[i] += x[k] * w[k];
    for (int width = 8; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
    }
    return sums[0];
  }

  static int64_t sum(const Rows&, const float*, int64_t, int64_t) { return 0; }
};

}  // namespace

Status float_path(const GemmArgs& args, const Parallel& parallel) { return JoinedGemm<FloatPath>(args).run(parallel); }

}  // namespace lowbit::ref
