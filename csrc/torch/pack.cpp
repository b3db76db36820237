// pack, unpack, prepack, unprepack, truncate: checks, views, calls.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "cpu/dispatch.h"
#include "torch/args.h"
#include "torch/backend.h"

namespace lowbit::bind {
namespace {

// `batch` matrices one after another, `step` bytes apart.
struct Batch {
  std::vector<int64_t> sizes;  // the leading dimensions
  int64_t count = 1;

  Batch(const Tensor& t, int64_t rank) {
    for (int64_t i = 0; i < t.dim() - rank; ++i) sizes.push_back(t.size(i)), count *= t.size(i);
  }
  // A new tensor of the leading dimensions and `last`.
  Tensor make(std::initializer_list<int64_t> last, ScalarType dtype) const {
    std::vector<int64_t> all = sizes;
    all.insert(all.end(), last);
    return empty(all, dtype);
  }
  int64_t step(const Tensor& t) const {
    return count == 0 ? 0 : t.numel() / count * static_cast<int64_t>(t.element_size());
  }
};

const char* at(const Tensor& t, int64_t bytes) { return static_cast<const char*>(t.data_ptr()) + bytes; }
char* to(const Tensor& t, int64_t bytes) { return static_cast<char*>(t.data_ptr()) + bytes; }

void check_rank(const char* op, const char* argument, const Tensor& t, int64_t rank, const char* layout) {
  check_device(op, argument, t);
  if (t.dim() < rank) {
    check(invalid(op, ": ", argument, " must be ", layout, ", got shape ", shape(t),
                  "; see lowbit.ops.pack for layouts"));
  }
}

void check_count(const char* op, const char* argument, int64_t value) {
  if (value < 0) check(invalid(op, ": ", argument, " must be at least 0, got ", value, "; it counts elements"));
}

// True and `order` for an order of another library, false for "canonical".
bool find_order(const char* op, const std::string& layout, const ElementFormat& f, Order* order) {
  if (layout == "canonical") return false;
  const int bits = f.bits;
  bool fits = true;
  const char* widths = "";
  if (layout == "plain") {
    *order = Order::kPlain;
  } else if (layout == "gptq") {
    *order = Order::kGptq, fits = bits == 2 || bits == 4 || bits == 8, widths = "2, 4 or 8";
  } else if (layout == "awq" || layout == "nibble_low" || layout == "nibble_high") {
    *order = layout == "awq" ? Order::kAwq : layout == "nibble_low" ? Order::kNibbleLow : Order::kNibbleHigh;
    fits = bits == 4, widths = "4";
  } else {
    check(invalid(op,
                  ": layout must be \"canonical\", \"plain\", \"nibble_low\", \"nibble_high\", \"gptq\" or \"awq\", ",
                  "got \"", layout, "\"; leave it out for the canonical layout"));
  }
  if (!fits) {
    check(invalid(op, ": format must have ", widths, " bits for layout \"", layout, "\", got ", f.name,
                  "; use \"canonical\""));
  }
  return true;
}

// Canonical, plain or tiled codes of any number of leading dimensions, the last matrix dimensions contiguous where
// there is more than one matrix.
Codes batched_codes(const char* op, const char* name, const Tensor& t, const ElementFormat& f, Layout layout,
                    int64_t cols, Tensor* hold) {
  const int64_t rank = codes_rank(f, layout);
  const Tensor whole = t.dim() > rank ? backend::visible(torch::stable::contiguous(t)) : t;
  const int64_t lead = t.dim() > rank ? t.dim() - rank : 0;
  return codes_view(op, name, whole, f, layout, cols, lead, hold);
}

Tensor make_canonical(const Batch& batch, const ElementFormat& f, int64_t rows, int64_t cols) {
  const Canonical kind = canonical(f);
  const int64_t width = canonical_row(kind, cols);
  return kind == Canonical::kPlanes ? batch.make({f.bits, rows, width}, ScalarType::Int)
                                    : batch.make({rows, width}, ScalarType::Byte);
}

Tensor pack(const Tensor& codes, std::string format, std::string layout) {
  backend::raise_earlier_findings();
  const ElementFormat* f = nullptr;
  Order order = Order::kPlain;
  check(parse_element("pack", "format", format, &f));
  const bool foreign = find_order("pack", layout, *f, &order);
  check_device("pack", "codes", codes);
  if (codes.scalar_type() != ScalarType::Byte || codes.dim() < 2) {
    check(invalid("pack: codes must be uint8 [..., rows, K], got ", dtype_name(codes.scalar_type()), " ", shape(codes),
                  "; convert them with .to(torch.uint8)"));
  }
  const int64_t d = codes.dim(), rows = codes.size(d - 2), cols = codes.size(d - 1);
  if (foreign && order == Order::kAwq && rows % 8 != 0) {
    check(invalid("pack: codes must have a multiple of 8 rows for layout \"awq\", got ", rows,
                  "; AWQ checkpoints have no other, use \"canonical\""));
  }
  const bool strided = d == 2 && (codes.stride(1) == 1 || cols <= 1);
  const Tensor in = strided ? codes : backend::visible(torch::stable::contiguous(codes));
  const Batch batch(in, 2);
  Tensor out;
  if (foreign) {
    const OrderShape s = order_shape(order, f->bits, rows, cols);
    out = batch.make({s.lines, s.units}, s.unit_bytes == 4 ? ScalarType::Int : ScalarType::Byte);
  } else {
    out = make_canonical(batch, *f, rows, cols);
  }
  for (int64_t b = 0; b < batch.count; ++b) {
    const auto* from = reinterpret_cast<const uint8_t*>(at(in, b * rows * cols));
    char* dest = to(out, b * batch.step(out));
    const int64_t stride = strided ? in.stride(0) : cols;
    check(foreign ? backend::kernels().pack_order(order, *f, from, stride, rows, cols, dest, torch_parallel())
                  : backend::kernels().pack(*f, from, stride, rows, cols, dest, torch_parallel()));
  }
  return out;
}

Tensor unpack_foreign(Order order, const ElementFormat& f, const std::string& layout, const Tensor& packed,
                      int64_t cols) {
  check_rank("unpack", "packed", packed, 2, "[..., lines, units]");
  const int64_t d = packed.dim();
  const bool by_column = order == Order::kGptq || order == Order::kAwq;
  const int64_t rows = order == Order::kAwq    ? 8 * packed.size(d - 1)
                       : order == Order::kGptq ? packed.size(d - 1)
                                               : packed.size(d - 2);
  const OrderShape s = order_shape(order, f.bits, rows, cols);
  const ScalarType want = s.unit_bytes == 4 ? ScalarType::Int : ScalarType::Byte;
  if (packed.scalar_type() != want || packed.size(d - 2) != s.lines || packed.size(d - 1) != s.units) {
    check(invalid("unpack: packed must be ", dtype_name(want), " [..., ",
                  by_column ? std::to_string(s.lines) : std::string("rows"), ", ",
                  by_column ? std::string(order == Order::kAwq ? "rows / 8" : "rows") : std::to_string(s.units),
                  "] for K = ", cols, " in layout \"", layout, "\", got ", dtype_name(packed.scalar_type()), " ",
                  shape(packed), "; K and the layout must be those that it was packed with"));
  }
  const Tensor in = backend::visible(torch::stable::contiguous(packed));
  const Batch batch(in, 2);
  Tensor out = batch.make({rows, cols}, ScalarType::Byte);
  for (int64_t b = 0; b < batch.count; ++b) {
    check(backend::kernels().unpack_order(order, f, at(in, b * batch.step(in)), rows, cols,
                                          reinterpret_cast<uint8_t*>(to(out, b * rows * cols)), torch_parallel()));
  }
  return out;
}

Tensor unpack(const Tensor& packed, std::string format, int64_t cols, std::string layout) {
  const ElementFormat* f = nullptr;
  Order order = Order::kPlain;
  check(parse_element("unpack", "format", format, &f));
  check_count("unpack", "k", cols);
  if (find_order("unpack", layout, *f, &order)) return unpack_foreign(order, *f, layout, packed, cols);
  Tensor hold;
  Codes codes = batched_codes("unpack", "packed", packed, *f, Layout::kCanonical, cols, &hold);
  const Batch batch(hold, codes_rank(*f, Layout::kCanonical));
  Tensor out = batch.make({codes.rows, cols}, ScalarType::Byte);
  for (int64_t b = 0; b < batch.count; ++b) {
    codes.data = at(hold, b * batch.step(hold));
    check(backend::kernels().unpack(codes, reinterpret_cast<uint8_t*>(to(out, b * batch.step(out))), torch_parallel()));
  }
  return out;
}

Tensor prepack(const Tensor& w, std::string format, int64_t cols, std::string to_layout) {
  Spec spec;
  check(parse_spec("prepack", "format", format, &spec));
  check_count("prepack", "k", cols);
  if (to_layout != "tile16" && to_layout != "mma64") {
    check(invalid("prepack: layout must be \"tile16\" or \"mma64\", got \"", to_layout,
                  "\"; the first is for CPUs, the second for tensor cores"));
  }
  const Layout layout = layout_of(spec, w), target = to_layout == "mma64" ? Layout::kMma64 : Layout::kTile16;
  if (is_tiled(layout)) {
    check(invalid("prepack: format must name the layout of w before, got \"", format,
                  "\"; leave the layout out, or keep w if it is prepacked already"));
  }
  const ElementFormat& f = *spec.element;
  Tensor hold;
  Codes codes = batched_codes("prepack", "w", w, f, layout, cols, &hold);
  check_rows_of_tiles("prepack", "w", spec, target, codes.rows);
  const Batch batch(hold, codes_rank(f, layout));
  Tensor out =
      batch.make({ceil_div(codes.rows, kTileRows), ceil_div(cols, tile_cols(target)), tile_bytes(target, f.bits)},
                 ScalarType::Byte);
  for (int64_t b = 0; b < batch.count; ++b) {
    codes.data = at(hold, b * batch.step(hold));
    check(backend::kernels().prepack(codes, target, reinterpret_cast<uint8_t*>(to(out, b * batch.step(out))),
                                     torch_parallel()));
  }
  return out;
}

Tensor unprepack(const Tensor& w, std::string format, int64_t rows, int64_t cols) {
  Spec spec;
  check(parse_spec("unprepack", "format", format, &spec));
  check_count("unprepack", "n", rows);
  check_count("unprepack", "k", cols);
  const ElementFormat& f = *spec.element;
  Tensor hold;
  const Layout layout = spec.layout == Layout::kMma64 ? Layout::kMma64 : Layout::kTile16;
  Codes codes = batched_codes("unprepack", "w", w, f, layout, cols, &hold);
  if (hold.size(hold.dim() - 3) != ceil_div(rows, kTileRows)) {
    check(invalid("unprepack: n must fit the tiles of 16 rows in w, got n = ", rows, " for w of shape ", shape(w),
                  "; give the n it was prepacked with"));
  }
  codes.rows = rows;
  const Batch batch(hold, 3);
  Tensor out = make_canonical(batch, f, rows, cols);
  for (int64_t b = 0; b < batch.count; ++b) {
    codes.data = at(hold, b * batch.step(hold));
    check(backend::kernels().unprepack(codes, to(out, b * batch.step(out)), torch_parallel()));
  }
  return out;
}

std::vector<int64_t> sizes_of(const Tensor& t) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < t.dim(); ++i) sizes.push_back(t.size(i));
  return sizes;
}

// The scale times 2^drop in its own dtype, which must hold it.
Tensor truncate_scale(const Tensor& scale, int drop) {
  check_device("truncate", "scale", scale);
  const DType dtype = float_dtype("truncate", "scale", scale);
  const Tensor in = backend::visible(torch::stable::contiguous(scale));
  Tensor out = empty(sizes_of(scale), scale.scalar_type());
  check(backend::kernels().truncate_scales(in.data_ptr(), dtype, in.numel(), drop, out.data_ptr(), torch_parallel()));
  return out;
}

Tensor truncate_zero(const ElementFormat& f, const Tensor& zero, int drop) {
  check_device("truncate", "zero", zero);
  const ScalarType type = zero.scalar_type();
  const DType dtype = type == ScalarType::Int    ? DType::kI32
                      : type == ScalarType::Char ? DType::kI8
                      : type == ScalarType::Byte ? DType::kU8
                                                 : float_dtype("truncate", "zero", zero);
  const Tensor in = backend::visible(torch::stable::contiguous(zero));
  Tensor out = empty(sizes_of(zero), ScalarType::Float);
  check(backend::kernels().truncate_zeros(f, in.data_ptr(), dtype, in.numel(), drop,
                                          static_cast<float*>(out.data_ptr()), torch_parallel()));
  return out;
}

Tensor filled(const std::vector<int64_t>& sizes, float value) {
  Tensor t = empty(sizes, ScalarType::Float);
  torch::stable::fill_(t, value);
  return t;
}

std::tuple<Tensor, Tensor, Tensor> truncate(const Tensor& w, OptTensor scale, OptTensor zero, std::string format,
                                            int64_t bits) {
  backend::raise_earlier_findings();
  Spec spec;
  check(parse_spec("truncate", "format", format, &spec));
  const ElementFormat& f = *spec.element;
  if (ref::truncated(f, f.bits) == nullptr) {
    check(invalid("truncate: format must be a signed, unsigned or bipolar integer, got ", f.name,
                  "; only their first planes are codes of a narrower format"));
  }
  if (bits < 1 || bits > f.bits) {
    check(invalid("truncate: bits must be 1 to ", static_cast<int>(f.bits), " for format ", f.name, ", got ", bits,
                  "; a wider format takes a new quantization"));
  }
  if (spec.scale != nullptr) {
    check(invalid("truncate: format must have float scales, got \"", format,
                  "\"; dequantize the scale codes and leave their format out, or leave scale out and multiply scale2"));
  }
  const Layout layout = layout_of(spec, w);
  if (is_tiled(layout)) {
    check(invalid("truncate: w must be canonical or plain, got format \"", format, "\"; unprepack it first"));
  }
  const int64_t rank = codes_rank(f, layout);
  check_rank("truncate", "w", w, rank,
             layout == Layout::kPlain ? "uint8 [..., rows, K]" : "int32 [..., bits, rows, words]");
  const int64_t cols = w.size(w.dim() - 1) * (layout == Layout::kPlain ? 1 : 32);
  Tensor hold;
  Codes codes = batched_codes("truncate", "w", w, f, layout, cols, &hold);
  const Batch batch(hold, rank);

  const int keep = static_cast<int>(bits), drop = f.bits - keep;
  std::vector<int64_t> one = batch.sizes;
  one.push_back(1);
  const Tensor new_scale = scale ? truncate_scale(*scale, drop) : filled(one, ref::truncated_scale(1.0f, drop));
  const Tensor new_zero =
      zero ? truncate_zero(f, *zero, drop) : filled(sizes_of(new_scale), ref::truncated_zero(f, 0.0f, drop));
  Tensor out = layout == Layout::kPlain ? batch.make({codes.rows, cols}, w.scalar_type())
                                        : make_canonical(batch, *ref::truncated(f, keep), codes.rows, cols);
  for (int64_t b = 0; b < batch.count; ++b) {
    codes.data = at(hold, b * batch.step(hold));
    check(backend::kernels().truncate(codes, keep, to(out, b * batch.step(out)), torch_parallel()));
  }
  return {out, new_scale, new_zero};
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("pack", LOWBIT_BOX(&lowbit::bind::pack));
  m.impl("unpack", LOWBIT_BOX(&lowbit::bind::unpack));
  m.impl("prepack", LOWBIT_BOX(&lowbit::bind::prepack));
  m.impl("unprepack", LOWBIT_BOX(&lowbit::bind::unprepack));
  m.impl("truncate", LOWBIT_BOX(&lowbit::bind::truncate));
}
