// The loop that the three families share: read the rows of both operands, multiply segment by segment, join, finish
// (gemm_args.h). A Path says how a row is kept and how two of them are multiplied:
//   Element                                             of the workspace that holds a row
//   static int64_t elements(const Rows&)                of one row
//   static void load(const Rows&, int64_t r, const std::vector<int64_t>& ends, Element* out)
//   static Sum dot(const Rows& x, const Rows& w, const Element* x_row, const Element* w_row, int64_t k0, int64_t k1)
//   static int64_t sum(const Rows&, const Element* row, int64_t k0, int64_t k1)      integer paths: of the codes
// Sum is float, with the zero points already in the rows, or int64_t.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "ref/gemm_args.h"
#include "ref/rows.h"

namespace lowbit::ref {

// What the join needs of one row in one segment.
struct RowSegment {
  float scale;       // times 2^-shift on the integer path
  float float_zero;  // times 2^shift
  int64_t zero;      // integer zero point times 2^shift
  int64_t sum;       // of the codes
};

template <class Path>
class JoinedGemm {
  using Element = typename Path::Element;
  using Sum = typename Path::Sum;
  static constexpr bool kInteger = std::is_same_v<Sum, int64_t>;

 public:
  explicit JoinedGemm(const GemmArgs& args)
      : args_(args),
        x_(args.xq != nullptr ? Rows(*args.xq) : Rows(args.x)),
        w_(args.w),
        x_scale_joins_(x_.scale_changes_along_columns()),
        w_float_zero_(kInteger && w_.has_float_zero()),
        any_zero_(kInteger && (args.w.zero || (args.xq != nullptr && args.xq->zero))) {
    x_.add_ends(&ends_);
    w_.add_ends(&ends_);
    std::sort(ends_.begin(), ends_.end());
    ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
  }

  Status run(const Parallel& parallel) {
    const int64_t m = args_.m, n = w_.rows(), k = w_.cols();
    if (m == 0 || n == 0) return Status();
    const auto segments = static_cast<int64_t>(ends_.size());
    // rows of x at a time: their copy stays near the processor while every row of w passes by
    const int64_t block = std::min(m, std::clamp<int64_t>((int64_t{1} << 18) / (k + 1), 8, 64));
    const int64_t size = Path::elements(x_);
    std::unique_ptr<Element[]> x_rows(new (std::nothrow) Element[static_cast<size_t>(block * size)]);
    std::unique_ptr<RowSegment[]> x_info(new (std::nothrow) RowSegment[static_cast<size_t>(block * segments)]);
    if (!x_rows || !x_info) return out_of_memory();
    std::atomic<bool> failed{false};
    for (int64_t m0 = 0; m0 < m; m0 += block) {
      const int64_t rows = std::min(block, m - m0);
      parallel(rows, 1 + 16384 / (k + 1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          Element* row = x_rows.get() + i * size;
          Path::load(x_, m0 + i, ends_, row);
          describe(x_, m0 + i, row, x_info.get() + i * segments);
        }
      });
      parallel(n, 1 + 32768 / (rows * (k + 1)), [&](int64_t begin, int64_t end) {
        const int64_t w_size = Path::elements(w_);
        std::unique_ptr<Element[]> w_row(new (std::nothrow) Element[static_cast<size_t>(w_size)]);
        std::unique_ptr<RowSegment[]> w_info(new (std::nothrow) RowSegment[static_cast<size_t>(segments)]);
        if (!w_row || !w_info) {
          failed.store(true, std::memory_order_relaxed);
          return;
        }
        for (int64_t j = begin; j < end; ++j) {
          Path::load(w_, j, ends_, w_row.get());
          describe(w_, j, w_row.get(), w_info.get());
          for (int64_t i = 0; i < rows; ++i) {
            element(m0 + i, j, x_rows.get() + i * size, x_info.get() + i * segments, w_row.get(), w_info.get());
          }
        }
      });
    }
    return failed.load() ? out_of_memory() : Status();
  }

 private:
  static Status out_of_memory() { return Status(Code::kOutOfMemory, "gemm: no memory for a row of the weight"); }

  void describe(const Rows& rows, int64_t r, const Element* row, RowSegment* info) const {
    int64_t k0 = 0;
    for (const int64_t k1 : ends_) {
      *info = {rows.scale(r, k0), 0.0f, 0, 0};
      if constexpr (kInteger) {
        const int64_t unit = int64_t{1} << rows.shift();
        info->scale *= 1.0f / static_cast<float>(unit);
        if (any_zero_) {
          info->zero = rows.integer_zero(r, k0) * unit;
          info->sum = Path::sum(rows, row, k0, k1);
          if (rows.has_float_zero()) info->float_zero = rows.zero(r, k0) * static_cast<float>(unit);
        }
      }
      ++info;
      k0 = k1;
    }
  }

  // sum (cw - zw) (cx - zx) from the sums of the codes, modulo 2^64
  static int64_t correct(int64_t dot, const RowSegment& x, const RowSegment& w, int64_t length) {
    const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
    return static_cast<int64_t>(u(dot) - u(x.zero) * u(w.sum) - u(w.zero) * u(x.sum) +
                                u(length) * u(x.zero) * u(w.zero));
  }

  void element(int64_t i, int64_t j, const Element* x_row, const RowSegment* xs, const Element* w_row,
               const RowSegment* ws) const {
    const bool raw = args_.out.dtype == DType::kI32;
    int64_t total = 0;
    float y = 0.0f;
    int64_t k0 = 0;
    for (const int64_t k1 : ends_) {
      Sum product = Path::dot(x_, w_, x_row, w_row, k0, k1);
      if constexpr (kInteger) {
        if (any_zero_) product = correct(product, *xs, *ws, k1 - k0);
        total = static_cast<int64_t>(static_cast<uint64_t>(total) + static_cast<uint64_t>(product));
      }
      if (!raw) {
        const float s = x_scale_joins_ ? ws->scale * xs->scale : ws->scale;
        y = std::fma(static_cast<float>(product), s, y);
        if (w_float_zero_) {
          const auto x_sum = static_cast<float>(xs->sum - (k1 - k0) * xs->zero);
          y = std::fma(x_sum, -(s * ws->float_zero), y);
        }
      }
      ++xs, ++ws;
      k0 = k1;
    }
    const int64_t at = i * args_.out.row_stride + j * args_.out.col_stride;
    if (raw) {
      static_cast<int32_t*>(args_.out.data)[at] = static_cast<int32_t>(total);
      return;
    }
    // also where x has no scale: its 2^-shift stands there
    if (x_.quantized() && !x_scale_joins_) y *= xs[-1].scale;
    if (args_.w.outliers.offsets != nullptr) y = add_outliers(y, i, j);
    if (args_.bias != nullptr) y += load_float(args_.bias, args_.bias_dtype, j * args_.bias_stride);
    store_float(args_.out.data, args_.out.dtype, at, y);
  }

  float add_outliers(float y, int64_t i, int64_t j) const {
    const Outliers& o = args_.w.outliers;
    for (int64_t e = o.offsets[j]; e < o.offsets[j + 1]; ++e) {
      y = std::fma(x_.at(i, o.cols[e]), load_float(o.values, o.dtype, e), y);
    }
    return y;
  }

  const GemmArgs& args_;
  const Rows x_, w_;
  std::vector<int64_t> ends_;
  const bool x_scale_joins_;
  const bool w_float_zero_;
  const bool any_zero_;
};

}  // namespace lowbit::ref
