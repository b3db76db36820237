// The arguments that describe one quantized matrix: codes, scales, zero points and scales of scales, checked and
// viewed.
#include <torch/csrc/stable/ops.h>

#include "torch/args.h"
#include "torch/backend.h"

namespace lowbit::bind {

Layout layout_of(const Spec& spec, const Tensor& codes) {
  if (spec.layout != Layout::kCanonical) return spec.layout;
  const ScalarType t = codes.scalar_type();
  const bool bytes = t == ScalarType::Byte || t == ScalarType::Char;
  return bytes && canonical(*spec.element) == Canonical::kPlanes ? Layout::kPlain : Layout::kCanonical;
}

void check_rows_of_tiles(const char* op, const char* argument, const Spec& spec, Layout layout, int64_t rows) {
  if (!is_tiled(layout) || spec.block.rows == 1 || rows % kTileRows == 0) return;
  check(invalid(op, ": ", argument,
                " must have a multiple of 16 rows to be prepacked with scales that rows share, got ", rows,
                "; give each row its own, as in \"",
                spec.block.cols == 0 ? std::string("row") : "g" + std::to_string(spec.block.cols), "\""));
}

int64_t codes_rank(const ElementFormat& f, Layout layout) {
  if (is_tiled(layout)) return 3;
  return layout == Layout::kCanonical && canonical(f) == Canonical::kPlanes ? 3 : 2;
}

namespace {

// Whether `t` may hold codes of `f` one or more a byte: bytes, or the torch dtype of this very format.
bool holds_bytes(ScalarType t, const ElementFormat& f) {
  return t == ScalarType::Byte || t == ScalarType::Char ||
         (t == ScalarType::Float4_e2m1fn_x2 && f.name == std::string("float4_e2m1fn")) || dtype_name(t) == f.name;
}

// `t` itself when its last dimension can be read with a unit stride, else a contiguous copy.
Tensor readable(const Tensor& t) {
  return t.dim() == 0 || t.stride(t.dim() - 1) == 1 || t.size(t.dim() - 1) <= 1
             ? t
             : backend::visible(torch::stable::contiguous(t));
}

int64_t expert_step(const Tensor& t) {
  return t.numel() == 1 || t.dim() == 0 ? 0 : t.stride(0) * static_cast<int64_t>(t.element_size());
}

const void* step(const void* p, int64_t bytes) { return static_cast<const char*>(p) + bytes; }

}  // namespace

Codes codes_view(const char* op, const std::string& name, const Tensor& t, const ElementFormat& f, Layout layout,
                 int64_t cols, int64_t lead, Tensor* hold) {
  check_device(op, name.c_str(), t);
  const int64_t rank = codes_rank(f, layout) + lead;
  const bool planes = layout == Layout::kCanonical && canonical(f) == Canonical::kPlanes;
  if (t.dim() != rank) {
    check(invalid(op, ": ", name, " must have ", rank, " dimensions for format ", f.name, ", got shape ", shape(t),
                  "; lowbit.ops.pack makes the canonical layout from codes [rows, K]"));
  }
  if (planes ? t.scalar_type() != ScalarType::Int : !holds_bytes(t.scalar_type(), f)) {
    check(invalid(op, ": ", name, " must be ", planes ? "int32 planes" : "uint8 codes", " for format ", f.name,
                  ", got ", dtype_name(t.scalar_type()), "; lowbit.ops.pack makes the canonical layout"));
  }
  Codes c;
  c.format = &f;
  c.layout = layout;
  c.cols = cols;
  if (is_tiled(layout)) {
    const int64_t tiles = ceil_div(cols, tile_cols(layout)), bytes = tile_bytes(layout, f.bits);
    *hold = t.is_contiguous() ? t : backend::visible(torch::stable::contiguous(t));
    if (reinterpret_cast<uintptr_t>(hold->data_ptr()) % backend::kTileAlignment != 0) {
      *hold = backend::visible(torch::stable::clone(*hold));
    }
    if (t.size(lead + 1) != tiles || t.size(lead + 2) != bytes) {
      check(invalid(op, ": ", name, " must be [rows / 16, ", tiles, ", ", bytes, "] for K = ", cols, " in format ",
                    f.name, layout == Layout::kMma64 ? "@mma64" : "@tile16", ", got shape ", shape(t),
                    "; prepack it with lowbit.ops.prepack"));
    }
    c.data = hold->data_ptr();
    return c;
  }
  *hold = readable(t);
  const Canonical kind = planes ? Canonical::kPlanes : canonical(f);
  const int64_t width = layout == Layout::kPlain ? cols : canonical_row(kind, cols);
  if (planes && hold->size(lead) != f.bits) {
    check(invalid(op, ": ", name, " must have ", static_cast<int>(f.bits), " planes for format ", f.name,
                  ", got shape ", shape(t), "; the layout is [bits, rows, ceil(K / 32)]"));
  }
  if (hold->size(rank - 1) != width) {
    check(invalid(op, ": ", name, " must have ", width, planes ? " words" : " bytes", " a row for K = ", cols,
                  " in format ", f.name, ", got shape ", shape(t),
                  "; K of the activations and of the weight must match"));
  }
  c.data = hold->data_ptr();
  c.rows = hold->size(rank - 2);
  c.row_stride = hold->stride(rank - 2);
  c.plane_stride = planes ? hold->stride(lead) : 0;
  return c;
}

BlockValues values_view(const char* op, const std::string& name, const Tensor& t, const ElementFormat* format,
                        Block block, int64_t rows, int64_t cols, int64_t lead, bool zero, Tensor* hold) {
  check_device(op, name.c_str(), t);
  const int64_t groups = Block::count(cols, block.cols);
  const int64_t value_rows = Block::count(rows, block.rows);
  BlockValues v;
  // one block along an axis is written as 0: what does not change cuts no segment
  v.block = {value_rows == 1 ? 0 : block.rows, groups == 1 ? 0 : block.cols};
  auto bad_shape = [&]() {
    check(invalid(op, ": ", name, " must have shape [", lead == 1 ? "experts, " : "", value_rows, ", ", groups,
                  "] for ", rows, " x ", cols, " under its block rule, got ", shape(t),
                  "; the block stands in the format, as in \"int4:g64\""));
  };
  if (format != nullptr) {
    const Layout layout = (t.scalar_type() != ScalarType::Int && canonical(*format) == Canonical::kPlanes)
                              ? Layout::kPlain
                              : Layout::kCanonical;
    if (t.dim() != codes_rank(*format, layout) + lead) bad_shape();
    v.codes = codes_view(op, name, t, *format, layout, groups, lead, hold);
    if (v.codes.rows != value_rows) bad_shape();
    v.data = v.codes.data;
    return v;
  }
  const ScalarType type = t.scalar_type();
  const bool is_float = type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half;
  const bool is_int = type == ScalarType::Int || type == ScalarType::Char || type == ScalarType::Byte;
  if (!is_float && !(zero && is_int)) {
    check(invalid(
        op, ": ", name, " must be float32, bfloat16 or float16", zero ? ", or int32, int8 or uint8" : "", ", got ",
        dtype_name(type),
        zero ? "; convert it with .to(torch.int32)" : "; a coded scale needs its format, as in \"uint4:g16/uint4\""));
  }
  *hold = t;
  v.data = t.data_ptr();
  v.dtype = any_dtype(t);
  const int64_t rank = t.dim() - lead;
  if (t.numel() == 1 || (lead == 1 && t.dim() >= 1 && rank <= 2 && t.size(0) > 0 && t.numel() == t.size(0))) {
    v.block = {0, 0};  // one value for all
    return v;
  }
  if (rank == 1 && groups == 1) {
    if (t.size(lead) != value_rows) bad_shape();
    v.row_stride = t.stride(lead);
    return v;
  }
  if (rank != 2 || t.size(lead + 1) != groups || t.size(lead) != value_rows) bad_shape();
  v.row_stride = t.stride(lead);
  v.col_stride = t.stride(lead + 1);
  return v;
}

namespace {

// Rows of a prepacked matrix: tiles hold whole sixteens, so a scale a row tells. A scale of several rows does not: such
// a matrix must fill its tiles.
int64_t tiled_rows(const QArgs& a, const Spec& spec, int64_t lead, int64_t tiles) {
  if (spec.block.rows != 1) return tiles * kTileRows;
  const std::string name = a.name;
  // a leading dimension of coded scales in planes, or of the two scales of complex2
  const bool may_have_more =
      spec.scale != nullptr ? a.scale && a.scale->scalar_type() == ScalarType::Int : spec.element->is_complex();
  const int64_t more = may_have_more && a.scale && a.scale->dim() == 3 + lead ? 1 : 0;
  if (!a.scale || a.scale->dim() != 2 + lead + more) {
    check(invalid(a.op, ": ", a.argument("scale"), " must be [rows, groups] when ", name,
                  " is prepacked (it tells the rows), got ", a.scale ? shape(*a.scale) : std::string("None"),
                  "; expand a tensor scale to [rows, 1]"));
  }
  const int64_t rows = a.scale->size(lead + more);
  if (ceil_div(rows, kTileRows) != tiles) {
    check(invalid(a.op, ": ", a.argument("scale"), " must have the rows of the prepacked ", name, ", got ", rows,
                  " rows for ", tiles, " tiles of 16; pass the scales that belong to this weight"));
  }
  return rows;
}

}  // namespace

const float* codebook_of(const char* op, const std::string& name, const ElementFormat& f, const OptTensor& table,
                         OptTensor* hold) {
  if (f.kind != Kind::kCodebook) {
    if (table) {
      check(invalid(op, ": ", name, " must be None for format ", f.name,
                    ", got a tensor; only the formats table1 ... table8 take their values from one"));
    }
    return nullptr;
  }
  if (!table) {
    check(invalid(op, ": ", name, " must hold the ", f.codes(), " values of format ", f.name,
                  ", got None; pass a float32 tensor in ascending order"));
  }
  check_device(op, name.c_str(), *table);
  if (table->scalar_type() != ScalarType::Float || table->numel() != f.codes()) {
    check(invalid(op, ": ", name, " must be float32 with ", f.codes(), " values, got ",
                  dtype_name(table->scalar_type()), " ", shape(*table), "; one value per code, ascending"));
  }
  *hold = backend::visible(torch::stable::contiguous(*table));
  return static_cast<const float*>((*hold)->data_ptr());
}

void block_values(const QArgs& a, int64_t rows, int64_t cols, bool with_experts, Hold* hold, QView* view) {
  const Spec& spec = view->spec;
  QMatrix& m = view->matrix;
  const int64_t lead = with_experts ? 1 : 0;
  Tensor kept;
  if (a.scale) {
    // complex2: [2, rows, groups] has one scale for the real and one for the imaginary codes
    const bool pair = spec.element->is_complex() && spec.scale == nullptr && a.scale->dim() == 3 + lead;
    if (pair && a.scale->size(lead) != 2) {
      check(invalid(a.op, ": ", a.argument("scale"),
                    " must be [rows, groups], or [2, rows, groups] with the scales of the ",
                    "real and of the imaginary codes, for format \"", std::string(a.format), "\", got shape ",
                    shape(*a.scale), "; put the two classes first"));
    }
    const Tensor real = pair ? torch::stable::select(*a.scale, lead, 0) : *a.scale;
    m.scale = values_view(a.op, a.argument("scale"), real, spec.scale, spec.block, rows, cols, lead, false, &kept);
    m.scale.unit = spec.unit;
    hold->scale = kept;
    if (pair) {
      m.scale_imaginary = m.scale;
      m.scale_imaginary.data = step(m.scale.data, a.scale->stride(lead) * static_cast<int64_t>(kept.element_size()));
    }
    view->scale_step = with_experts ? expert_step(kept) : 0;
  } else if (spec.scale != nullptr) {
    check(invalid(a.op, ": ", a.argument("scale"), " must be given for format \"", std::string(a.format),
                  "\", got None; lowbit.ops.quantize returns it"));
  }
  if (a.scale2) {
    if (!spec.scale_has_scale) {
      check(invalid(a.op, ": ", a.argument("scale2"), " must be None for format \"", std::string(a.format),
                    "\", got a tensor; a second level is written as in \"uint4:g16/uint4:g16\""));
    }
    hold->second = values_view(a.op, a.argument("scale2"), *a.scale2, nullptr, spec.scale_block,
                               Block::count(rows, spec.block.rows), Block::count(cols, spec.block.cols), with_experts,
                               false, &kept);
    hold->scale2 = kept;
    m.scale.second = &hold->second;
    view->scale2_step = with_experts ? expert_step(kept) : 0;
  } else if (spec.scale_has_scale) {
    check(invalid(a.op, ": ", a.argument("scale2"), " must be given for format \"", std::string(a.format),
                  "\", got None; lowbit.ops.quantize returns it"));
  }
  if (a.zero) {
    m.zero = values_view(a.op, a.argument("zero"), *a.zero, nullptr, spec.block, rows, cols, lead, true, &kept);
    hold->zero = kept;
    view->zero_step = with_experts ? expert_step(kept) : 0;
  }
}

QView quantized(const QArgs& a, int64_t cols, bool with_experts, Hold* hold, int64_t code_cols) {
  QView view;
  const std::string name = a.name;
  check(parse_spec(a.op, a.argument("format").c_str(), a.format, &view.spec));
  const Spec& spec = view.spec;
  QMatrix& m = view.matrix;
  m.cols = cols;
  m.codes = codes_view(a.op, name, a.codes, *spec.element, layout_of(spec, a.codes), code_cols < 0 ? cols : code_cols,
                       with_experts ? 1 : 0, &hold->codes);
  m.codes.codebook = codebook_of(a.op, a.argument("table"), *spec.element, a.table, &hold->table);
  if (is_tiled(m.codes.layout)) {
    m.codes.rows = tiled_rows(a, spec, with_experts ? 1 : 0, hold->codes.size(with_experts ? 1 : 0));
  }
  block_values(a, m.codes.rows, cols, with_experts, hold, &view);
  if (with_experts) {
    view.experts = hold->codes.size(0);
    view.codes_step = hold->codes.stride(0) * static_cast<int64_t>(hold->codes.element_size());
    for (const OptTensor* t : {&hold->scale, &hold->scale2, &hold->zero}) {
      if (*t && (*t)->numel() != 1 && (*t)->size(0) != view.experts) {
        check(invalid(a.op, ": ", a.argument("scale"), ", _scale2 and _zero must have ", view.experts,
                      " experts like the codes, got shape ", shape(**t), "; stack one per expert"));
      }
    }
  }
  return view;
}

QMatrix QView::expert(int64_t e, BlockValues* second) const {
  QMatrix m = matrix;
  m.codes.data = step(m.codes.data, e * codes_step);
  if (m.scale) {
    m.scale.data = step(m.scale.data, e * scale_step);
    if (m.scale.codes.format != nullptr) m.scale.codes.data = m.scale.data;
    if (m.scale_imaginary) m.scale_imaginary.data = step(m.scale_imaginary.data, e * scale_step);
    if (m.scale.second != nullptr) {
      *second = *m.scale.second;
      second->data = step(second->data, e * scale2_step);
      m.scale.second = second;
    }
  }
  if (m.zero) m.zero.data = step(m.zero.data, e * zero_step);
  return m;
}

}  // namespace lowbit::bind
