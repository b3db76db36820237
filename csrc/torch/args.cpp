#include "torch/args.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <vector>

namespace lowbit::bind {

void check(const Status& status) {
  switch (status.code()) {
    case Code::kOk: return;
    case Code::kInvalidArgument: throw std::invalid_argument(status.message());
    case Code::kOutOfMemory: throw std::bad_alloc();
    default: throw std::runtime_error(status.message());
  }
}

Parallel torch_parallel() {
  return {[](int64_t count, int64_t grain, Parallel::Body body, void* context) {
    if (count <= grain) return body(0, count, context);
    torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(begin, end, context); });
  }};
}

std::string shape(const Tensor& t) {
  std::string s = "[";
  for (int64_t i = 0; i < t.dim(); ++i) s += (i ? ", " : "") + std::to_string(t.size(i));
  return s + "]";
}

std::string dtype_name(ScalarType t) {
  switch (t) {
    case ScalarType::Byte: return "uint8";
    case ScalarType::Char: return "int8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Half: return "float16";
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Bool: return "bool";
    case ScalarType::Float8_e4m3fn: return "float8_e4m3fn";
    case ScalarType::Float8_e5m2: return "float8_e5m2";
    case ScalarType::Float8_e8m0fnu: return "float8_e8m0fnu";
    case ScalarType::Float4_e2m1fn_x2: return "float4_e2m1fn_x2";
    case ScalarType::ComplexFloat: return "complex64";
    default: return "dtype " + std::to_string(static_cast<int>(t));
  }
}

void check_cpu(const char* op, const char* argument, const Tensor& t) {
  if (!t.is_cpu()) {
    check(invalid(op, ": ", argument, " must be on the CPU like the other arguments, got a tensor on another device; ",
                  "move it with .to(\"cpu\")"));
  }
}

DType float_dtype(const char* op, const char* argument, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::kF32;
    case ScalarType::BFloat16: return DType::kBF16;
    case ScalarType::Half: return DType::kF16;
    default:
      check(invalid(op, ": ", argument, " must be float32, bfloat16 or float16, got ", dtype_name(t.scalar_type()),
                    "; convert it with .to(torch.float32)"));
      return DType::kF32;
  }
}

ScalarType scalar_type(DType t) {
  switch (t) {
    case DType::kF32: return ScalarType::Float;
    case DType::kBF16: return ScalarType::BFloat16;
    case DType::kF16: return ScalarType::Half;
    case DType::kI32: return ScalarType::Int;
    case DType::kI8: return ScalarType::Char;
    default: return ScalarType::Byte;
  }
}

DType out_dtype(const char* op, std::optional<ScalarType> asked, DType fallback) {
  if (!asked) return fallback;
  switch (*asked) {
    case ScalarType::Float: return DType::kF32;
    case ScalarType::BFloat16: return DType::kBF16;
    case ScalarType::Half: return DType::kF16;
    default:
      check(invalid(op, ": out_dtype must be float32, bfloat16 or float16, got ", dtype_name(*asked),
                    "; leave it out for the default"));
      return fallback;
  }
}

Tensor empty(const std::vector<int64_t>& sizes, ScalarType dtype) {
  return torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), dtype);
}
Tensor empty(std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return empty(std::vector<int64_t>(sizes), dtype);
}

namespace {

DType any_dtype(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::kF32;
    case ScalarType::BFloat16: return DType::kBF16;
    case ScalarType::Half: return DType::kF16;
    case ScalarType::Int: return DType::kI32;
    case ScalarType::Char: return DType::kI8;
    default: return DType::kU8;
  }
}

// The stride that makes the leading dimensions one, or -1. Dimensions of size 1 do not matter.
int64_t collapsed_stride(const Tensor& t) {
  int64_t stride = 0, expected = -1;
  for (int64_t d = t.dim() - 2; d >= 0; --d) {
    if (t.size(d) == 1) continue;
    if (expected < 0) {
      stride = t.stride(d);
    } else if (t.stride(d) != expected) {
      return -1;
    }
    expected = t.stride(d) * t.size(d);
  }
  return stride;
}

Matrix view_rows(const Tensor& t, int64_t row_stride) {
  Matrix m;
  m.data = t.data_ptr();
  m.dtype = any_dtype(t);
  m.cols = t.dim() ? t.size(t.dim() - 1) : 1;
  m.rows = 1;
  for (int64_t d = 0; d + 1 < t.dim(); ++d) m.rows *= t.size(d);
  m.row_stride = row_stride;
  m.col_stride = t.dim() ? t.stride(t.dim() - 1) : 1;
  return m;
}

// Byte range [first, last) that a tensor touches; strides of a torch tensor are never negative.
std::pair<const char*, const char*> extent(const Tensor& t) {
  const auto* first = static_cast<const char*>(t.data_ptr());
  if (t.numel() == 0) return {first, first};
  int64_t last = 0;
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  const auto size = static_cast<int64_t>(t.element_size());
  return {first, first + (last + 1) * size};
}

}  // namespace

Matrix rows_of(const char* op, const char* argument, const Tensor& t, Tensor* hold) {
  check_cpu(op, argument, t);
  if (t.dim() < 1) {
    check(invalid(op, ": ", argument, " must have at least 1 dimension, got a scalar; give it as [1, K]"));
  }
  const int64_t stride = collapsed_stride(t);
  if (stride >= 0) return view_rows(t, stride);
  *hold = torch::stable::contiguous(t);
  return view_rows(*hold, collapsed_stride(*hold));
}

Matrix out_rows_of(const char* op, const char* argument, const Tensor& t) {
  check_cpu(op, argument, t);
  // sort dimensions by stride: a dimension must step over all smaller ones
  std::vector<std::pair<int64_t, int64_t>> dims;
  for (int64_t d = 0; d < t.dim(); ++d) {
    if (t.size(d) > 1) dims.emplace_back(t.stride(d), t.size(d));
  }
  std::sort(dims.begin(), dims.end());
  int64_t covered = 1;
  for (const auto& [stride, size] : dims) {
    if (stride < covered && t.numel() > 0) {
      check(invalid(op, ": ", argument, " must not overlap itself, got shape ", shape(t), " with a stride of ", stride,
                    "; pass a tensor from torch.empty"));
    }
    covered = stride * (size - 1) + covered;
  }
  const int64_t stride = collapsed_stride(t);
  if (t.dim() < 1 || stride < 0) {
    check(invalid(op, ": ", argument, " must be a matrix of evenly spaced rows, got shape ", shape(t),
                  "; pass a tensor from torch.empty"));
  }
  return view_rows(t, stride);
}

void check_no_overlap(const char* op, const char* out_name, const Tensor& out, const char* in_name, const Tensor& in) {
  const auto [a, a_end] = extent(out);
  const auto [b, b_end] = extent(in);
  if (a < b_end && b < a_end) {
    check(
        invalid(op, ": ", out_name, " must not share memory with ", in_name, ", got overlapping tensors; pass a copy"));
  }
}

Layout layout_of(const Spec& spec, const Tensor& codes) {
  if (spec.layout != Layout::kCanonical) return spec.layout;
  const ScalarType t = codes.scalar_type();
  const bool bytes = t == ScalarType::Byte || t == ScalarType::Char;
  return bytes && canonical(*spec.element) == Canonical::kPlanes ? Layout::kPlain : Layout::kCanonical;
}

int64_t codes_rank(const ElementFormat& f, Layout layout) {
  if (layout == Layout::kTile16) return 3;
  return layout == Layout::kCanonical && canonical(f) == Canonical::kPlanes ? 3 : 2;
}

namespace {

bool is_byte_type(ScalarType t) {
  return t == ScalarType::Byte || t == ScalarType::Char || t == ScalarType::Float8_e4m3fn ||
         t == ScalarType::Float8_e5m2 || t == ScalarType::Float8_e8m0fnu || t == ScalarType::Float4_e2m1fn_x2;
}

// `t` itself when its last `rank` dimensions can be read with a unit last stride, else a contiguous copy.
Tensor readable(const Tensor& t) {
  return t.dim() == 0 || t.stride(t.dim() - 1) == 1 || t.size(t.dim() - 1) <= 1 ? t : torch::stable::contiguous(t);
}

}  // namespace

Codes codes_view(const char* op, const std::string& name, const Tensor& t, const ElementFormat& f, Layout layout,
                 int64_t cols, int64_t lead, Tensor* hold) {
  check_cpu(op, name.c_str(), t);
  const int64_t rank = codes_rank(f, layout) + lead;
  const bool planes = layout == Layout::kCanonical && canonical(f) == Canonical::kPlanes;
  if (t.dim() != rank) {
    check(invalid(op, ": ", name, " must have ", rank, " dimensions for format ", f.name, ", got shape ", shape(t),
                  "; lowbit.pack makes the canonical layout from codes [rows, K]"));
  }
  if (planes ? t.scalar_type() != ScalarType::Int : !is_byte_type(t.scalar_type())) {
    check(invalid(op, ": ", name, " must be ", planes ? "int32 planes" : "uint8 codes", " for format ", f.name,
                  ", got ", dtype_name(t.scalar_type()), "; lowbit.pack makes the canonical layout"));
  }
  Codes c;
  c.format = &f;
  c.layout = layout;
  c.cols = cols;
  if (layout == Layout::kTile16) {
    *hold = t.is_contiguous() ? t : torch::stable::contiguous(t);
    if (t.size(lead + 1) != ceil_div(cols, kTileCols) || t.size(lead + 2) != 8 * f.bits) {
      check(invalid(op, ": ", name, " must be [rows / 16, ", ceil_div(cols, kTileCols), ", ", 8 * f.bits, "] for K = ",
                    cols, " in format ", f.name, "@tile16, got shape ", shape(t), "; prepack it with lowbit.prepack"));
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
  check_cpu(op, name.c_str(), t);
  BlockValues v;
  v.block = block;
  const int64_t groups = Block::count(cols, block.cols);
  const int64_t value_rows = rows == 0 ? -1 : Block::count(rows, block.rows);
  auto bad_shape = [&]() {
    std::string want = value_rows < 0 ? "rows" : std::to_string(value_rows);
    check(invalid(op, ": ", name, " must have shape [", lead ? "experts, " : "", want, ", ", groups, "] for ",
                  rows == 0 ? std::string("K = ") : std::to_string(rows) + " x ", cols, " under its block rule, got ",
                  shape(t), "; put the block into the format, as in \"int4:g64\""));
  };
  if (format != nullptr) {
    // coded values: canonical codes of a [value_rows, groups] matrix; one value may come as any one-element tensor
    const Layout layout = (t.scalar_type() != ScalarType::Int && canonical(*format) == Canonical::kPlanes)
                              ? Layout::kPlain
                              : Layout::kCanonical;
    v.codes = codes_view(op, name, t, *format, layout, groups, lead, hold);
    if (value_rows >= 0 && v.codes.rows != value_rows) bad_shape();
    v.data = v.codes.data;
    return v;
  }
  const ScalarType type = t.scalar_type();
  const bool is_float = type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half;
  const bool is_int = type == ScalarType::Int || type == ScalarType::Char || type == ScalarType::Byte;
  if (!is_float && !(zero && is_int)) {
    check(invalid(op, ": ", name, " must be float32, bfloat16 or float16", zero ? ", or int32, int8 or uint8" : "",
                  ", got ", dtype_name(type),
                  zero ? "" : "; a coded scale needs its format, as in \"uint4:g16/uint4\""));
  }
  *hold = t;
  v.data = t.data_ptr();
  v.dtype = any_dtype(t);
  const int64_t rank = t.dim() - lead;
  if (t.numel() == (lead ? t.size(0) : 1) && rank <= 2 && (groups == 1 || block.cols == 0) &&
      (value_rows == 1 || block.rows <= 1) && !(rank == 2 && value_rows == 1)) {
    v.block = value_rows == 1 ? block : Block{0, 0};  // one value for all
    return v;
  }
  if (rank == 1 && groups == 1) {
    if (value_rows >= 0 && t.size(lead) != value_rows) bad_shape();
    v.row_stride = t.stride(lead);
    return v;
  }
  if (rank != 2 || t.size(lead + 1) != groups || (value_rows >= 0 && t.size(lead) != value_rows)) bad_shape();
  v.row_stride = t.stride(lead);
  v.col_stride = t.stride(lead + 1);
  return v;
}

const float* codebook_of(const char* op, const std::string& name, const ElementFormat& f, const OptTensor& table,
                         OptTensor* hold) {
  if (f.kind != Kind::kCodebook) return nullptr;
  if (!table) {
    check(invalid(op, ": ", name, " must hold the ", f.codes(), " values of format ", f.name,
                  ", got None; pass a float32 tensor in ascending order"));
  }
  if (table->scalar_type() != ScalarType::Float || table->numel() != f.codes()) {
    check(invalid(op, ": ", name, " must be float32 with ", f.codes(), " values, got ",
                  dtype_name(table->scalar_type()), " ", shape(*table), "; one value per code, ascending"));
  }
  check_cpu(op, name.c_str(), *table);
  *hold = torch::stable::contiguous(*table);
  return static_cast<const float*>((*hold)->data_ptr());
}

namespace {

int64_t expert_step(const Tensor& t) { return t.stride(0) * static_cast<int64_t>(t.element_size()); }

const void* step(const void* p, int64_t bytes) { return static_cast<const char*>(p) + bytes; }

}  // namespace

QView quantized(const QArgs& a, int64_t cols, bool with_experts, Hold* hold) {
  QView view;
  const std::string name = a.name;
  check(parse_spec(a.op, (name + "_format").c_str(), a.format, &view.spec));
  const Spec& spec = view.spec;
  const int64_t lead = with_experts ? 1 : 0;
  QMatrix& m = view.matrix;
  m.cols = cols;
  m.codes = codes_view(a.op, name, a.codes, *spec.element, layout_of(spec, a.codes), cols, lead, &hold->codes);

  m.codes.codebook = codebook_of(a.op, name + "_table", *spec.element, a.table, &hold->table);

  int64_t rows = m.codes.rows;
  if (m.codes.layout == Layout::kTile16) {
    if (!a.scale || a.scale->dim() < 2 + lead || a.scale->dim() > 3 + lead) {
      check(invalid(a.op, ": ", name, "_scale must be [rows, groups] when ", name,
                    " is prepacked (it tells the rows), got ", a.scale ? shape(*a.scale) : std::string("None"),
                    "; expand a tensor scale to [rows, 1]"));
    }
    const bool planes = a.scale->dim() == 3 + lead;  // of coded scales, or the two of complex2
    rows = planes ? a.scale->size(lead + 1) : a.scale->size(lead);
    if (spec.block.rows > 1) {
      check(invalid(a.op, ": ", name, "_format must have one scale row a matrix row when prepacked, got \"",
                    std::string(a.format), "\"; repeat the scales to \"g", spec.block.cols, "\" first"));
    }
    if (ceil_div(rows, kTileRows) != hold->codes.size(lead)) {
      check(invalid(a.op, ": ", name, "_scale must have the rows of the prepacked ", name, ", got ", rows, " rows for ",
                    hold->codes.size(lead), " tiles of 16; pass the scales that belong to this weight"));
    }
    m.codes.rows = rows;
  }

  if (a.scale) {
    Tensor kept;
    // complex2: [2, rows, groups] has one scale for the real and one for the imaginary codes
    const bool pair = spec.element->is_complex() && a.scale->dim() == 3 + lead && a.scale->size(lead) == 2;
    const Tensor real = pair ? torch::stable::select(*a.scale, lead, 0) : *a.scale;
    m.scale = values_view(a.op, name + "_scale", real, spec.scale, spec.block, rows, cols, lead, false, &kept);
    m.scale.unit = spec.unit;
    hold->scale = kept;
    if (pair) {
      m.scale_imaginary = m.scale;
      m.scale_imaginary.data = step(m.scale.data, a.scale->stride(lead) * static_cast<int64_t>(kept.element_size()));
    }
    if (with_experts) view.scale_step = expert_step(kept);
  } else if (spec.scale != nullptr) {
    check(invalid(a.op, ": ", name, "_scale must be given for format \"", std::string(a.format), "\", got None; ",
                  "lowbit.quantize returns it"));
  }
  if (a.scale2) {
    if (!spec.scale_has_scale) {
      check(invalid(a.op, ": ", name, "_scale2 must be None for format \"", std::string(a.format),
                    "\", got a tensor; a second level is written as in \"uint4:g16/uint4:g16\""));
    }
    Tensor kept;
    hold->second =
        values_view(a.op, name + "_scale2", *a.scale2, nullptr, spec.scale_block, Block::count(rows, spec.block.rows),
                    Block::count(cols, spec.block.cols), lead, false, &kept);
    hold->scale2 = kept;
    m.scale.second = &hold->second;
    if (with_experts) view.scale2_step = expert_step(kept);
  } else if (spec.scale_has_scale) {
    check(invalid(a.op, ": ", name, "_scale2 must be given for format \"", std::string(a.format), "\", got None; ",
                  "lowbit.quantize returns it"));
  }
  if (a.zero) {
    Tensor kept;
    m.zero = values_view(a.op, name + "_zero", *a.zero, nullptr, spec.block, rows, cols, lead, true, &kept);
    hold->zero = kept;
    if (with_experts) view.zero_step = expert_step(kept);
  }
  if (with_experts) {
    view.experts = hold->codes.size(0);
    view.codes_step = expert_step(hold->codes);
    for (const OptTensor* t : {&hold->scale, &hold->scale2, &hold->zero}) {
      if (*t && (*t)->size(0) != view.experts) {
        check(invalid(a.op, ": ", name, "_scale, _scale2 and _zero must have ", view.experts,
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

Seed seed_of(const char* op, const Tensor& seed) {
  check_cpu(op, "seed", seed);
  if (seed.scalar_type() != ScalarType::Long || seed.dim() != 1 || seed.size(0) != 2) {
    check(invalid(op, ": seed must be int64 [2] (seed, offset), got ", dtype_name(seed.scalar_type()), " ", shape(seed),
                  "; make it with torch.tensor([seed, offset])"));
  }
  const auto* p = static_cast<const int64_t*>(seed.data_ptr());
  return {static_cast<uint64_t>(p[0]), static_cast<uint64_t>(p[seed.stride(0)])};
}

}  // namespace lowbit::bind
