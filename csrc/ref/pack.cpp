#include "ref/pack.h"

#include <atomic>
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

}  // namespace

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel& parallel) {
  std::atomic<int64_t> bad{-1};
  parallel(rows, 1 + 65536 / (cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        if (!is_code(f, codes[r * row_stride + c])) {
          int64_t seen = bad.load();
          const int64_t here = r * cols + c;
          while ((seen < 0 || here < seen) && !bad.compare_exchange_weak(seen, here)) {
          }
          return;
        }
      }
    }
  });
  if (bad.load() >= 0) {
    const int64_t r = bad.load() / cols, c = bad.load() % cols;
    return invalid("pack: codes must be codes of ", f.name, ", got ", static_cast<int>(codes[r * row_stride + c]),
                   " at row ", r, ", column ", c, "; ",
                   f.is_int() && f.rule == kTernary ? "ternary codes are 0, 1 and 3 (two's complement of 0, 1, -1)"
                                                    : "mask the codes to the format's bits");
  }
  const Canonical kind = canonical(f);
  const Codes view = contiguous_view(f, out, rows, cols);
  const int64_t unit = kind == Canonical::kPlanes ? 4 : 1;
  std::memset(out, 0, static_cast<size_t>((kind == Canonical::kPlanes ? f.bits : 1) * rows * view.row_stride * unit));
  parallel(rows, 1 + 65536 / (cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        canonical_put(kind, f.bits, out, view.row_stride, view.plane_stride, r, c, codes[r * row_stride + c]);
      }
    }
  });
  return Status();
}

Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel) {
  parallel(packed.rows, 1 + 65536 / (packed.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < packed.cols; ++c) out[r * packed.cols + c] = static_cast<uint8_t>(packed.code(r, c));
    }
  });
  return Status();
}

Status prepack(const Codes& codes, uint8_t* out, const Parallel& parallel) {
  const int bits = codes.format->bits;
  std::memset(out, 0, static_cast<size_t>(tile16_bytes(bits, codes.rows, codes.cols)));
  // a tile row belongs to one range: its bytes are or-ed into
  parallel(ceil_div(codes.rows, kTileRows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * kTileRows; r < end * kTileRows && r < codes.rows; ++r) {
      for (int64_t c = 0; c < codes.cols; ++c) tile16_put(bits, out, codes.cols, r, c, codes.code(r, c));
    }
  });
  return Status();
}

Status unprepack(const Codes& tiles, void* out, const Parallel& parallel) {
  const Canonical kind = canonical(*tiles.format);
  const Codes view = contiguous_view(*tiles.format, out, tiles.rows, tiles.cols);
  const int64_t unit = kind == Canonical::kPlanes ? 4 : 1;
  const int planes = kind == Canonical::kPlanes ? tiles.format->bits : 1;
  std::memset(out, 0, static_cast<size_t>(planes * tiles.rows * view.row_stride * unit));
  parallel(tiles.rows, 1 + 65536 / (tiles.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < tiles.cols; ++c) {
        canonical_put(kind, tiles.format->bits, out, view.row_stride, view.plane_stride, r, c, tiles.code(r, c));
      }
    }
  });
  return Status();
}

}  // namespace lowbit::ref
