#include "ref/pack.h"

#include <atomic>
#include <cmath>
#include <cstring>

namespace lowbit::ref {
namespace {

// Bytes of a contiguous canonical matrix, and its strides.
Codes contiguous_view(const ElementFormat& f, const void* data, int64_t rows, int64_t cols) {
  Codes c;
  c.data = data;
  c.format = &f;
  c.rows = rows;
  c.cols = cols;
  c.row_stride = canonical_row(canonical(f), cols);
  c.plane_stride = c.row_stride * rows;
  return c;
}

// An empty matrix has no memory, and memset may not be given a null pointer.
void zero_bytes(void* out, int64_t bytes) {
  if (bytes > 0) std::memset(out, 0, static_cast<size_t>(bytes));
}

void zero_canonical(const ElementFormat& f, void* out, int64_t rows, int64_t cols) {
  const bool planes = canonical(f) == Canonical::kPlanes;
  zero_bytes(out, (planes ? 4 * f.bits : 1) * rows * canonical_row(canonical(f), cols));
}

// Rows in a piece of work: enough elements to be worth a thread.
int64_t row_grain(int64_t cols) { return 1 + 65536 / (cols + 1); }

Status check_codes(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols,
                   const Parallel& parallel) {
  std::atomic<int64_t> bad{-1};
  parallel(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        if (is_code(f, codes[r * row_stride + c])) continue;
        int64_t seen = bad.load();
        const int64_t here = r * cols + c;
        while ((seen < 0 || here < seen) && !bad.compare_exchange_weak(seen, here)) {
        }
        return;
      }
    }
  });
  if (bad.load() < 0) return Status();
  const int64_t r = bad.load() / cols, c = bad.load() % cols;
  return invalid("pack: codes must be codes of ", f.name, ", got ", static_cast<int>(codes[r * row_stride + c]),
                 " at row ", r, ", column ", c, "; ",
                 f.is_int() && f.rule == kTernary ? "ternary codes are 0, 1 and 3 (two's complement of 0, 1, -1)"
                                                  : "mask the codes to the format's bits");
}

}  // namespace

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel& parallel) {
  LOWBIT_RETURN_IF_ERROR(check_codes(f, codes, row_stride, rows, cols, parallel));
  const Canonical kind = canonical(f);
  const Codes view = contiguous_view(f, out, rows, cols);
  zero_canonical(f, out, rows, cols);
  parallel(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        canonical_put(kind, f.bits, out, view.row_stride, view.plane_stride, r, c, codes[r * row_stride + c]);
      }
    }
  });
  return Status();
}

Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel) {
  parallel(packed.rows, row_grain(packed.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < packed.cols; ++c) out[r * packed.cols + c] = static_cast<uint8_t>(packed.code(r, c));
    }
  });
  return Status();
}

Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Parallel& parallel) {
  LOWBIT_RETURN_IF_ERROR(check_codes(f, codes, row_stride, rows, cols, parallel));
  const OrderShape shape = order_shape(order, f.bits, rows, cols);
  parallel(shape.lines, row_grain(shape.units * shape.slots), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      for (int64_t unit = 0; unit < shape.units; ++unit) {
        uint32_t word = 0;
        for (int slot = 0; slot < shape.slots; ++slot) {
          const ElementIndex at = order_element(order, f.bits, line, unit, slot);
          if (at.row >= rows || at.col >= cols) continue;
          word |= static_cast<uint32_t>(codes[at.row * row_stride + at.col]) << (slot * f.bits);
        }
        const int64_t index = line * shape.units + unit;
        if (shape.unit_bytes == 4) {
          static_cast<uint32_t*>(out)[index] = word;
        } else {
          static_cast<uint8_t*>(out)[index] = static_cast<uint8_t>(word);
        }
      }
    }
  });
  return Status();
}

Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Parallel& parallel) {
  const OrderShape shape = order_shape(order, f.bits, rows, cols);
  const uint32_t mask = (1u << f.bits) - 1u;
  parallel(shape.lines, row_grain(shape.units * shape.slots), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      for (int64_t unit = 0; unit < shape.units; ++unit) {
        const int64_t index = line * shape.units + unit;
        const uint32_t word = shape.unit_bytes == 4 ? static_cast<const uint32_t*>(packed)[index]
                                                    : static_cast<const uint8_t*>(packed)[index];
        for (int slot = 0; slot < shape.slots; ++slot) {
          const ElementIndex at = order_element(order, f.bits, line, unit, slot);
          if (at.row >= rows || at.col >= cols) continue;
          out[at.row * cols + at.col] = static_cast<uint8_t>(word >> (slot * f.bits) & mask);
        }
      }
    }
  });
  return Status();
}

Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Parallel& parallel) {
  const int bits = codes.format->bits;
  const auto put = layout == Layout::kMma64 ? mma64_put : tile16_put;
  zero_bytes(out, tiled_bytes(layout, bits, codes.rows, codes.cols));
  // a tile row belongs to one range: its bytes are or-ed into
  parallel(ceil_div(codes.rows, kTileRows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * kTileRows; r < end * kTileRows && r < codes.rows; ++r) {
      for (int64_t c = 0; c < codes.cols; ++c) put(bits, out, codes.cols, r, c, codes.code(r, c));
    }
  });
  return Status();
}

Status unprepack(const Codes& tiles, void* out, const Parallel& parallel) {
  const Canonical kind = canonical(*tiles.format);
  const Codes view = contiguous_view(*tiles.format, out, tiles.rows, tiles.cols);
  zero_canonical(*tiles.format, out, tiles.rows, tiles.cols);
  parallel(tiles.rows, row_grain(tiles.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < tiles.cols; ++c) {
        canonical_put(kind, tiles.format->bits, out, view.row_stride, view.plane_stride, r, c, tiles.code(r, c));
      }
    }
  });
  return Status();
}

const ElementFormat* truncated(const ElementFormat& f, int bits) {
  if (!f.is_int() || f.rule == kTernary || f.rule == kComplex) return nullptr;
  for (const ElementFormat& g : kFormats) {
    if (g.is_int() && g.rule == f.rule && g.bits == bits) return &g;
  }
  return nullptr;
}

Status truncate(const Codes& codes, int bits, void* out, const Parallel& parallel) {
  const int drop = codes.format->bits - bits;
  parallel(codes.rows, row_grain(codes.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (codes.layout == Layout::kPlain) {
        auto* to = static_cast<uint8_t*>(out) + r * codes.cols;
        for (int64_t c = 0; c < codes.cols; ++c) to[c] = static_cast<uint8_t>(codes.code(r, c) >> drop);
        continue;
      }
      const int64_t words = canonical_row(Canonical::kPlanes, codes.cols);
      for (int b = 0; b < bits; ++b) {
        std::memcpy(static_cast<uint32_t*>(out) + (b * codes.rows + r) * words,
                    static_cast<const uint32_t*>(codes.data) + b * codes.plane_stride + r * codes.row_stride,
                    static_cast<size_t>(words) * 4);
      }
    }
  });
  return Status();
}

Status truncate_scales(const void* scale, DType dtype, int64_t count, int drop, void* out, const Parallel&) {
  for (int64_t i = 0; i < count; ++i) {
    const float before = load_float(scale, dtype, i);
    store_float(out, dtype, i, truncated_scale(before, drop));
    if (!std::isfinite(load_float(out, dtype, i))) {
      const char* name = dtype == DType::kF32 ? "float32" : dtype == DType::kBF16 ? "bfloat16" : "float16";
      return invalid("truncate: scale must be finite after times ", 1 << drop, " in ", name, ", got ", before,
                     " at element ", i, "; convert it with .to(torch.float32)");
    }
  }
  return Status();
}

Status truncate_zeros(const ElementFormat& f, const void* zero, DType dtype, int64_t count, int drop, float* out,
                      const Parallel&) {
  for (int64_t i = 0; i < count; ++i) out[i] = truncated_zero(f, load_float(zero, dtype, i), drop);
  return Status();
}

}  // namespace lowbit::ref
