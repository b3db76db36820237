#include "ref/quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "ref/stochastic_round.h"

namespace lowbit::ref {
namespace {

// Rows are worked through in chunks: a multiple of every packing unit and of every fused transform.
constexpr int64_t kChunk = kMaxFusedHadamard;

void report(std::atomic<int64_t>* first, int64_t index) {
  int64_t seen = first->load(std::memory_order_relaxed);
  while ((seen < 0 || index < seen) && !first->compare_exchange_weak(seen, index)) {
  }
}

void transform(float* t, int64_t size) {
  for (int64_t h = 1; h < size; h *= 2) {
    for (int64_t i = 0; i < size; i += 2 * h) {
      for (int64_t j = i; j < i + h; ++j) {
        const float a = t[j], b = t[j + h];
        t[j] = a + b;
        t[j + h] = a - b;
      }
    }
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  for (int64_t i = 0; i < size; ++i) t[i] *= scale;
}

// Elements [c0, c0 + n) of row r, n <= kChunk.
void load(const QuantizeArgs& a, int64_t r, int64_t c0, int64_t n, float* t) {
  for (int64_t i = 0; i < n; ++i) t[i] = a.x.at(r, c0 + i);
  for (int64_t i = 0; a.hadamard > 0 && i < n; i += a.hadamard) transform(t + i, a.hadamard);
}

int64_t row_grain(int64_t cols) { return 1 + 16384 / (cols + 1); }

// Calls f(row, first column, n, values) for every chunk of rows [begin, end).
template <class F>
void for_chunks(const QuantizeArgs& a, int64_t begin, int64_t end, F&& f) {
  float t[kChunk];
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t c = 0; c < a.x.cols; c += kChunk) {
      const int64_t n = std::min(kChunk, a.x.cols - c);
      load(a, r, c, n, t);
      f(r, c, n, t);
    }
  }
}

Status check_finite(const QuantizeArgs& a, const Parallel& parallel) {
  std::atomic<int64_t> bad{-1};
  parallel(a.rows, row_grain(a.cols), [&](int64_t begin, int64_t end) {
    for_chunks(a, begin, end, [&](int64_t r, int64_t c, int64_t n, const float* t) {
      for (int64_t i = 0; i < n; ++i) {
        if (!std::isfinite(t[i])) return report(&bad, r * a.x.cols + c + i);
      }
    });
  });
  return bad < 0 ? Status() : non_finite(a, bad / a.x.cols, bad % a.x.cols);
}

// Extents of all blocks (scaling.h).
void extents(const QuantizeArgs& a, std::vector<float>* extent, std::vector<float>* low, const Parallel& parallel) {
  const BlockStore& s = a.scaling.scale;
  const Block block = a.scaling.spec.block;
  const int64_t high = block.rows == 0 ? a.rows : block.rows, wide = block.cols == 0 ? a.cols : block.cols;
  extent->assign(static_cast<size_t>(s.rows * s.cols), 0.0f);
  low->assign(a.scaling.asymmetric ? extent->size() : 0, 0.0f);
  parallel(s.rows, 1 + row_grain(a.cols) / high, [&](int64_t begin, int64_t end) {
    for_chunks(a, begin * high, std::min(end * high, a.rows), [&](int64_t r, int64_t c, int64_t n, const float* t) {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t b = r / high * s.cols + (c + i) / wide;
        float& e = (*extent)[static_cast<size_t>(b)];
        e = std::max(e, a.scaling.asymmetric ? t[i] : std::fabs(t[i]));
        if (a.scaling.asymmetric) (*low)[static_cast<size_t>(b)] = std::min((*low)[static_cast<size_t>(b)], t[i]);
      }
    });
    for (int64_t b = begin * s.cols; a.scaling.asymmetric && b < end * s.cols; ++b) {
      (*extent)[static_cast<size_t>(b)] -= (*low)[static_cast<size_t>(b)];
    }
  });
}

// Where codes go.
struct CodeStore {
  const ElementFormat& f;
  Layout layout;
  void* data;
  Canonical kind;
  int64_t row_stride, plane_stride;

  explicit CodeStore(const QuantizeArgs& a)
      : f(*a.scaling.spec.element),
        layout(a.layout),
        data(a.codes),
        kind(canonical(f)),
        row_stride(layout == Layout::kPlain ? a.cols : canonical_row(kind, a.cols)),
        plane_stride(row_stride * a.rows) {}

  void clear_row(int64_t r) const {
    if (layout == Layout::kPlain) return;
    const bool planes = kind == Canonical::kPlanes;
    const int64_t unit = planes ? 4 : 1;
    for (int p = 0; p < (planes ? f.bits : 1); ++p) {
      std::memset(static_cast<char*>(data) + (p * plane_stride + r * row_stride) * unit, 0,
                  static_cast<size_t>(row_stride * unit));
    }
  }
  void put(int64_t r, int64_t c, uint32_t code) const {
    if (layout == Layout::kPlain) {
      const bool sign = f.is_int() && (f.rule == kSigned || f.rule == kTernary);
      static_cast<uint8_t*>(data)[r * row_stride + c] = static_cast<uint8_t>(sign ? decode_int(f, code) : code);
    } else {
      canonical_put(kind, f.bits, data, row_stride, plane_stride, r, c, code);
    }
  }
};

Status quantize_real(const QuantizeArgs& a, const Parallel& parallel) {
  BlockValues scale = a.scale, zero = a.zero, second;
  if (a.scaling.scale) {
    std::vector<float> extent, low;
    extents(a, &extent, &low, parallel);
    LOWBIT_RETURN_IF_ERROR(make_scales(a.scaling, extent.data(), low.data(), parallel));
    scale = scale_view(a.scaling, &second);
    zero = zero_view(a.scaling);
  }
  const ElementFormat& f = *a.scaling.spec.element;
  const CodeStore store(a);
  parallel(a.rows, row_grain(a.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) store.clear_row(r);
    for_chunks(a, begin, end, [&](int64_t r, int64_t c0, int64_t n, const float* t) {
      int64_t same_until = c0;  // s and z hold for columns below
      float s = 1, z = 0;
      for (int64_t c = c0; c < c0 + n; ++c) {
        if (c == same_until) {
          if (scale) s = scale.at(r, c);
          if (zero) z = zero.at(r, c);
          same_until = std::min(scale.block_end(c, a.cols), zero.block_end(c, a.cols));
        }
        float y = s == 0 ? 0.0f : t[c - c0] / s;
        if (zero) y += z;
        const auto index = static_cast<uint64_t>((a.first_row + r) * a.cols + c);
        store.put(r, c,
                  a.stochastic ? encode_stochastic(f, y, a.random.bits(index), a.scaling.codebook)
                               : encode(f, y, a.scaling.codebook));
      }
    });
  });
  return Status();
}

Status quantize_complex(const QuantizeArgs& a, const Parallel& parallel) {
  const BlockStore& s = a.scaling.scale;
  const Block block = a.scaling.spec.block;
  const int64_t high = block.rows == 0 ? a.rows : block.rows, wide = block.cols == 0 ? a.cols : block.cols;
  const CodeStore store(a);
  std::atomic<int64_t> bad{-1};
  parallel(Block::count(a.rows, high), 1 + row_grain(a.cols) / high, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * high; i < std::min(end * high, a.rows); ++i) {
      store.clear_row(i);
      for (int64_t c = 0; c < a.cols; ++c) store.put(i, c, encode_complex(a.x.at(i, 2 * c), a.x.at(i, 2 * c + 1)));
    }
    for (int64_t b = begin * s.cols; s && b < end * s.cols; ++b) {
      const int64_t r0 = b / s.cols * high, c0 = b % s.cols * wide;
      double sum[2] = {0, 0};
      int64_t count[2] = {0, 0};
      for (int64_t r = r0; r < std::min(r0 + high, a.rows); ++r) {
        for (int64_t c = c0; c < std::min(c0 + wide, a.cols); ++c) {
          const float part[2] = {a.x.at(r, 2 * c), a.x.at(r, 2 * c + 1)};
          const int imaginary = static_cast<int>(encode_complex(part[0], part[1]) & 1u);
          sum[imaginary] += std::fabs(part[imaginary]);
          ++count[imaginary];
        }
      }
      for (int i = 0; i < 2; ++i) {
        const double mean = count[i] == 0 ? 1.0 : sum[i] / static_cast<double>(count[i]);
        const float v = stored_scale(static_cast<float>(mean), s.dtype);
        if (!std::isfinite(v)) report(&bad, b);
        store_float(s.data, s.dtype, i * s.rows * s.cols + b, v);
      }
    }
  });
  if (bad < 0) return Status();
  return invalid(a.scaling.op,
                 ": x must be small enough for scales of its scale_dtype, got a mean beyond it at block (",
                 bad / s.cols, ", ", bad % s.cols, "); use scale_dtype=torch.float32");
}

}  // namespace

Status non_finite(const QuantizeArgs& a, int64_t row, int64_t col) {
  return invalid(a.scaling.op, ": x must be finite, got ", a.x.at(row, col), " at row ", a.first_row + row, ", column ",
                 col, "; clean the tensor before it becomes a weight");
}

Status check_given(const QuantizeArgs& a) {
  const Block block = a.scaling.spec.block;
  const int64_t rows = Block::count(a.rows, block.rows), cols = Block::count(a.cols, block.cols);
  for (const BlockValues* v : {&a.scale, &a.zero}) {
    for (int64_t i = 0; *v && i < rows * cols; ++i) {
      const int64_t r = i / cols * block.rows, c = i % cols * block.cols;
      if (!std::isfinite(v->at(r, c))) {
        return invalid(a.scaling.op, ": ", v == &a.scale ? "scale" : "zero", " must be finite, got ", v->at(r, c),
                       " for row ", r, ", column ", c, "; calibrate it again");
      }
    }
  }
  return Status();
}

Status quantize(const QuantizeArgs& args, const Parallel& parallel) {
  LOWBIT_RETURN_IF_ERROR(check_finite(args, parallel));
  try {
    return args.scaling.spec.element->is_complex() ? quantize_complex(args, parallel) : quantize_real(args, parallel);
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "quantize: no memory for the extents of the blocks");
  }
}

}  // namespace lowbit::ref
