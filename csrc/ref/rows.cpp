#include "ref/rows.h"

#include <algorithm>
#include <type_traits>

#include "common/parallel.h"

namespace lowbit::ref {
namespace {

// Tables of complex weights; the sign flip of -Im has a table of its own.
enum ComplexTable : int { kReal, kImag, kMinusImag };

void read_planes(const Codes& codes, int64_t r, int64_t begin, int64_t end, uint8_t* out) {
  const auto* row = static_cast<const uint32_t*>(codes.data) + r * codes.row_stride;
  const int bits = codes.format->bits;
  for (int64_t c = begin; c < end;) {
    const int64_t word = c / 32;
    const int64_t stop = std::min(end, word * 32 + 32);
    uint8_t unpacked[32] = {};
    for (int b = 0; b < bits; ++b) {
      const uint32_t plane = row[b * codes.plane_stride + word];
      for (int j = 0; j < 32; ++j) unpacked[j] = static_cast<uint8_t>(unpacked[j] << 1 | (plane >> j & 1u));
    }
    for (; c < stop; ++c) *out++ = unpacked[c % 32];
  }
}

}  // namespace

void read_codes(const Codes& codes, int64_t r, int64_t begin, int64_t end, uint8_t* out) {
  if (codes.layout == Layout::kCanonical && canonical(*codes.format) == Canonical::kPlanes) {
    return read_planes(codes, r, begin, end, out);
  }
  for (int64_t c = begin; c < end; ++c) *out++ = static_cast<uint8_t>(codes.code(r, c));
}

Rows::Rows(const QMatrix& q) : q_(&q), rows_(q.codes.rows), cols_(q.cols) {
  const ElementFormat& f = *q.codes.format;
  complex_ = f.is_complex();
  if (complex_) {
    rows_ *= 2, cols_ *= 2;
    tables_.resize(3);
    for (int c = 0; c < 256; ++c) {
      const Complex v = decode_complex(static_cast<uint32_t>(c & 3));
      const int value[] = {v.real, v.imag, -v.imag};
      for (int t = 0; t < 3; ++t) {
        tables_[t].value[c] = static_cast<float>(value[t]);
        tables_[t].integer[c] = static_cast<int16_t>(value[t]);
        tables_[t].code[c] = static_cast<uint8_t>(value[t] & 3);
      }
    }
    // the table of a piece is that of row n; rows N + n: see read()
    pieces_ = {{0, q.cols, &q.codes, 0, kReal}, {q.cols, 2 * q.cols, &q.codes, 0, kMinusImag}};
    return;
  }
  shift_ = std::max(0, int8_shift(f));
  auto add_table = [&](const Codes& codes) {
    tables_.emplace_back();
    Table& t = tables_.back();
    const float step = pow2(shift_);
    const bool integer = int8_shift(*codes.format) >= 0;
    for (int c = 0; c < 256; ++c) {
      const uint32_t code = static_cast<uint32_t>(c) & ((1u << codes.format->bits) - 1u);
      t.value[c] = decode(*codes.format, code, codes.codebook);
      t.integer[c] = integer ? static_cast<int16_t>(t.value[c] * step) : int16_t{0};
      t.code[c] = static_cast<uint8_t>(code);
    }
  };
  add_table(q.codes);
  if (q.high == nullptr) {
    pieces_ = {{0, q.cols, &q.codes, 0, 0}};
    return;
  }
  add_table(*q.high);
  const int64_t groups = ceil_div(q.cols, q.group);
  int64_t low = 0, high = 0, next = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const bool is_high = next < q.high_count && q.high_groups[next] == g;
    next += is_high;
    const int64_t begin = g * q.group, end = std::min(q.cols, begin + q.group);
    int64_t& first = is_high ? high : low;
    if (!pieces_.empty() && pieces_.back().table == (is_high ? 1 : 0)) {
      pieces_.back().end = end;
    } else {
      pieces_.push_back({begin, end, is_high ? q.high : &q.codes, first, is_high ? 1 : 0});
    }
    first += end - begin;
  }
}

void Rows::add_ends(std::vector<int64_t>* ends) const {
  ends->push_back(cols_);
  if (q_ == nullptr) return;
  for (const Piece& p : pieces_) ends->push_back(p.end);
  for (const BlockValues* v : {&q_->scale, &q_->zero}) {
    if (!*v || v->block.cols == 0) continue;
    for (int64_t c = v->block.cols; c < q_->cols; c += v->block.cols) {
      ends->push_back(c);
      if (complex_) ends->push_back(q_->cols + c);
    }
  }
}

template <class T>
void Rows::read(int64_t r, int64_t begin, int64_t end, T* out) const {
  uint8_t codes[256];
  for (const Piece& p : pieces_) {
    const int64_t first = std::max(begin, p.begin), last = std::min(end, p.end);
    int table = p.table;
    int64_t row = r;
    if (complex_ && r >= q_->codes.rows) {
      row -= q_->codes.rows;
      table = p.table == kReal ? kImag : kReal;
    }
    for (int64_t c = first; c < last; c += 256) {
      const int64_t n = std::min<int64_t>(256, last - c);
      read_codes(*p.codes, row, p.first + c - p.begin, p.first + c - p.begin + n, codes);
      const Table& t = tables_[static_cast<size_t>(table)];
      T* to = out + (c - begin);
      for (int64_t i = 0; i < n; ++i) {
        if constexpr (std::is_same_v<T, float>) {
          to[i] = t.value[codes[i]];
        } else if constexpr (std::is_same_v<T, int16_t>) {
          to[i] = t.integer[codes[i]];
        } else {
          to[i] = t.code[codes[i]];
        }
      }
    }
  }
}

void Rows::values(int64_t r, int64_t begin, int64_t end, float* out) const {
  if (q_ != nullptr) return read(r, begin, end, out);
  for (int64_t c = begin; c < end; ++c) out[c - begin] = dense_.at(r, c);
}
void Rows::integers(int64_t r, int64_t begin, int64_t end, int16_t* out) const { read(r, begin, end, out); }
void Rows::codes(int64_t r, int64_t begin, int64_t end, uint8_t* out) const { read(r, begin, end, out); }

float Rows::scale(int64_t r, int64_t c) const {
  if (q_ == nullptr || !q_->scale) return 1.0f;
  if (!complex_) return q_->scale.at(r, c);
  const int64_t n = q_->codes.rows;
  const bool imaginary = (r >= n) != (c >= q_->cols);
  const BlockValues& scale = imaginary && q_->scale_imaginary ? q_->scale_imaginary : q_->scale;
  return scale.at(r % n, c % q_->cols);
}

float Rows::zero(int64_t r, int64_t c) const { return q_ != nullptr && q_->zero ? q_->zero.at(r, c) : 0.0f; }

bool Rows::has_float_zero() const {
  if (q_ == nullptr || !q_->zero) return false;
  const DType t = q_->zero.dtype;
  return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16;
}

int64_t Rows::integer_zero(int64_t r, int64_t c) const {
  if (q_ == nullptr || !q_->zero || has_float_zero()) return 0;
  const BlockValues& z = q_->zero;
  const int64_t i = z.block.rows == 0 ? 0 : r / z.block.rows;
  const int64_t j = z.block.cols == 0 ? 0 : c / z.block.cols;
  const int64_t at = i * z.row_stride + j * z.col_stride;
  switch (z.dtype) {
    case DType::kI32: return static_cast<const int32_t*>(z.data)[at];
    case DType::kI8: return static_cast<const int8_t*>(z.data)[at];
    default: return static_cast<const uint8_t*>(z.data)[at];
  }
}

float Rows::at(int64_t r, int64_t c) const {
  float v;
  values(r, c, c + 1, &v);
  return scale(r, c) * (v - zero(r, c));
}

}  // namespace lowbit::ref
