#include "ref/dequant_gemm.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "ref/float_path.h"
#include "ref/rows.h"

namespace lowbit::ref {
namespace {

// Tiles of the gradient: rows of dY times columns of W that one sweep over n serves.
constexpr int64_t kRows = 32;
constexpr int64_t kCols = 512;

// Columns [k0, k1) of row n of the weight: fl(scale * fl(value - zero)) + outliers.
void dequantize_row(const Rows& w, const Outliers& outliers, int64_t n, int64_t k0, int64_t k1, const int64_t* ends,
                    float* out) {
  w.values(n, k0, k1, out);
  for (int64_t k = k0; k < k1;) {
    while (*ends <= k) ++ends;
    const float scale = w.scale(n, k), zero = w.zero(n, k);
    for (const int64_t stop = std::min(*ends, k1); k < stop; ++k) out[k - k0] = scale * (out[k - k0] - zero);
  }
  if (outliers.offsets == nullptr) return;
  for (int64_t e = outliers.offsets[n]; e < outliers.offsets[n + 1]; ++e) {
    const int64_t k = outliers.cols[e];
    if (k >= k0 && k < k1) out[k - k0] += load_float(outliers.values, outliers.dtype, e);
  }
}

}  // namespace

Status dequant_gemm(const GemmArgs& args, const Parallel& parallel) { return float_path(args, parallel); }

Status dequant_gemm_input_grad(const GemmArgs& args, const Parallel& parallel) {
  const Rows w(args.w);
  std::vector<int64_t> ends;
  w.add_ends(&ends);
  std::sort(ends.begin(), ends.end());
  const int64_t m = args.m, n = w.rows(), k = w.cols();
  const int64_t col_tiles = ceil_div(k, kCols);
  std::atomic<bool> failed{false};
  parallel(ceil_div(m, kRows) * col_tiles, 1, [&](int64_t begin, int64_t end) {
    std::unique_ptr<float[]> sums(new (std::nothrow) float[kRows * kCols]);
    if (!sums) {
      failed.store(true, std::memory_order_relaxed);
      return;
    }
    float row[kCols];
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t m0 = tile / col_tiles * kRows, m1 = std::min(m, m0 + kRows);
      const int64_t k0 = tile % col_tiles * kCols, k1 = std::min(k, k0 + kCols);
      std::fill_n(sums.get(), kRows * kCols, 0.0f);
      for (int64_t j = 0; j < n; ++j) {
        dequantize_row(w, args.w.outliers, j, k0, k1, ends.data(), row);
        for (int64_t i = m0; i < m1; ++i) {
          const float dy = args.x.at(i, j);
          float* sum = sums.get() + (i - m0) * kCols;
          for (int64_t c = 0; c < k1 - k0; ++c) sum[c] += dy * row[c];
        }
      }
      for (int64_t i = m0; i < m1; ++i) {
        for (int64_t c = k0; c < k1; ++c) args.out.set(i, c, sums[(i - m0) * kCols + c - k0]);
      }
    }
  });
  return failed.load() ? Status(Code::kOutOfMemory, "dequant_gemm_input_grad: no memory for a tile") : Status();
}

}  // namespace lowbit::ref
