// dequantize of quantize.h.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "ref/quantize.h"

namespace lowbit::ref {
namespace {

// The code of an element of a matrix that may be split into two widths, and the codes it came from.
const Codes* find(const QMatrix& w, int64_t* col) {
  if (w.high == nullptr) return &w.codes;
  const int64_t group = *col / w.group;
  const int32_t* end = w.high_groups + w.high_count;
  const int32_t* at = std::lower_bound(w.high_groups, end, static_cast<int32_t>(group));
  const int64_t before = at - w.high_groups;  // high groups below this one
  const bool high = at != end && *at == group;
  *col = (high ? before : group - before) * w.group + *col % w.group;
  return high ? w.high : &w.codes;
}

struct Scaled {
  const QMatrix& w;

  float value(int64_t r, int64_t c) const {
    int64_t col = c;
    float v = find(w, &col)->value(r, col);
    if (w.zero) v -= w.zero.at(r, c);
    if (w.scale) v *= w.scale.at(r, c);
    return v;
  }
};

void put_outliers(const QMatrix& w, const Matrix& out, int64_t r, int64_t out_row) {
  const Outliers& o = w.outliers;
  for (int32_t i = o.offsets[r]; i < o.offsets[r + 1]; ++i) {
    float v = Scaled{w}.value(r, o.cols[i]);
    for (int32_t j = o.offsets[r]; j < o.offsets[r + 1]; ++j) {  // all entries of this column, in their order
      if (o.cols[j] == o.cols[i]) v += load_float(o.values, o.dtype, j);
    }
    out.set(out_row, o.cols[i], v);
  }
}

// One row. False when it holds what it must not.
bool dequantize_row(const QMatrix& w, const Matrix& out, int64_t r, int64_t out_row) {
  bool good = true;
  int64_t same_until = 0;
  float s = 1, z = 0, imaginary = 1;
  for (int64_t c = 0; c < w.cols; ++c) {
    if (c == same_until) {
      if (w.scale) s = imaginary = w.scale.at(r, c);
      if (w.scale_imaginary) imaginary = w.scale_imaginary.at(r, c);
      if (w.zero) z = w.zero.at(r, c);
      same_until = std::min(w.scale.block_end(c, w.cols), w.zero.block_end(c, w.cols));
      good = good && std::isfinite(s) && std::isfinite(imaginary);
    }
    int64_t col = c;
    const Codes& codes = *find(w, &col);
    const uint32_t code = codes.code(r, col);
    good = good && is_code(*codes.format, code);
    if (codes.format->is_complex()) {
      const Complex v = decode_complex(code);
      out.set(out_row, 2 * c, static_cast<float>(v.real) * s);
      out.set(out_row, 2 * c + 1, static_cast<float>(v.imag) * imaginary);
    } else {
      float v = decode(*codes.format, code, codes.codebook);
      if (w.zero) v -= z;
      out.set(out_row, c, w.scale ? v * s : v);
    }
  }
  if (w.outliers.offsets != nullptr) put_outliers(w, out, r, out_row);
  return good;
}

}  // namespace

Status bad_value(const DequantizeArgs& a, int64_t row) {
  for (int64_t c = 0; c < a.w.cols; ++c) {
    int64_t col = c;
    const Codes& codes = *find(a.w, &col);
    if (!is_code(*codes.format, codes.code(row, col))) {
      return invalid(a.op, ": w must hold codes of ", codes.format->name, ", got ", codes.code(row, col), " at row ",
                     row, ", column ", c, "; the weight was damaged or belongs to another format");
    }
    for (const BlockValues* v : {&a.w.scale, &a.w.scale_imaginary}) {
      if (*v && !std::isfinite(v->at(row, c))) {
        return invalid(a.op, ": scale must be finite, got ", v->at(row, c), " for row ", row, ", column ", c,
                       "; the weight was damaged");
      }
    }
  }
  return Status();
}

Status dequantize(const DequantizeArgs& a, const Parallel& parallel) {
  std::atomic<int64_t> bad{-1};
  parallel(a.rows, 1 + 16384 / (a.w.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t r = a.ids == nullptr ? i : a.ids[i];
      if (!dequantize_row(a.w, a.out, r, i)) bad.store(r, std::memory_order_relaxed);
    }
  });
  return bad < 0 ? Status() : bad_value(a, bad);
}

void decode_table(const ElementFormat& f, const float* codebook, float values[256]) {
  for (int c = 0; c < 256; ++c) {
    values[c] = c < f.codes() && !f.is_complex() ? decode(f, static_cast<uint32_t>(c), codebook) : 0.0f;
  }
}

}  // namespace lowbit::ref
