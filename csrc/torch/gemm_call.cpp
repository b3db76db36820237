#include "torch/gemm_call.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "torch/backend.h"

namespace lowbit::bind {
namespace {

// `t` with its leading dimensions merged into the rows: planes [..., bits, rows, words] to [bits, rows', words], others
// [..., rows, n] to [rows', n]; `dims` is the number of dimensions that are rows. Values with one number a row may lack
// the last dimension. Left as it is where the shape is another: the checks that follow name it.
Tensor merge_rows(const Tensor& t, bool planes, const std::vector<int64_t>& rows) {
  const auto dims = static_cast<int64_t>(rows.size());
  if (planes) {
    if (t.dim() != dims + 2 || dims < 2) return t;
    const Tensor batches = backend::visible(torch::stable::flatten(t, 0, dims - 2));  // [batches, bits, rows, words]
    return backend::visible(torch::stable::flatten(torch::stable::transpose(batches, 0, 1), 1, 2));
  }
  if (dims == 0) return t.dim() == 1 ? torch::stable::unsqueeze(t, 0) : t;
  if (t.dim() < dims || dims == 1) return t;
  for (int64_t d = 0; d < dims; ++d) {
    if (t.size(d) != rows[static_cast<size_t>(d)]) return t;
  }
  return t.dim() <= dims + 1 ? backend::visible(torch::stable::flatten(t, 0, dims - 1)) : t;
}

OptTensor merge_rows(const OptTensor& t, const ElementFormat* format, const std::vector<int64_t>& rows) {
  if (!t || t->numel() == 1) return t;
  const bool planes =
      format != nullptr && canonical(*format) == Canonical::kPlanes && t->scalar_type() == ScalarType::Int;
  return merge_rows(*t, planes, rows);
}

void check_k(const char* op, int64_t k) {
  if (k < 1) check(invalid(op, ": k must be at least 1, got ", k, "; it is the number of columns of the matrix"));
}

// The largest |code - zero point| of an operand.
int64_t largest(const ElementFormat& f, const BlockValues& zero, int64_t rows, int64_t cols) {
  int64_t low = 0, high = 0;  // of the codes
  for (uint32_t c = 0; c < static_cast<uint32_t>(f.codes()); ++c) {
    const int64_t v = f.is_complex() ? 1 : decode_int(f, c);
    low = std::min(low, v), high = std::max(high, v);
  }
  if (!zero) return std::max(-low, high);
  if (!backend::kReadsValues) {  // what the dtype allows
    const int64_t least = zero.dtype == DType::kU8 ? 0 : zero.dtype == DType::kI8 ? -128 : INT32_MIN;
    const int64_t largest_zero = zero.dtype == DType::kU8 ? 255 : zero.dtype == DType::kI8 ? 127 : INT32_MAX;
    return std::max(high - least, largest_zero - low);
  }
  int64_t most = 0;
  const int64_t n = Block::count(rows, zero.block.rows), groups = Block::count(cols, zero.block.cols);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < groups; ++j) {
      const int64_t at = i * zero.row_stride + j * zero.col_stride;
      const int64_t z = zero.dtype == DType::kI32  ? static_cast<const int32_t*>(zero.data)[at]
                        : zero.dtype == DType::kI8 ? static_cast<const int8_t*>(zero.data)[at]
                                                   : static_cast<const uint8_t*>(zero.data)[at];
      most = std::max({most, high - z, z - low});
    }
  }
  return most;
}

bool is_float(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16; }

// The raw sum: no scale, bias or float zero point can enter it, and it must fit in 32 bits.
void check_raw(const char* op, const GemmArgs& a) {
  if (!a.xq->codes.format->is_int() || !a.w.codes.format->is_int()) {
    check(invalid(op,
                  ": out_dtype must be float32, bfloat16 or float16 unless both formats are integers, got int32 for ",
                  a.xq->codes.format->name, " times ", a.w.codes.format->name, "; leave it out"));
  }
  if (a.xq->scale || a.w.scale || a.bias != nullptr) {
    check(invalid(op,
                  ": x_scale, w_scale and bias must be None for out_dtype=torch.int32, got a tensor; the raw sum is "
                  "that of the codes"));
  }
  for (const QMatrix* q : {a.xq, &a.w}) {
    if (q->zero && is_float(q->zero.dtype)) {
      check(invalid(op, ": ", q == a.xq ? "x_zero" : "w_zero",
                    " must hold integers for out_dtype=torch.int32, got floats; leave out_dtype out"));
    }
    if (!backend::kReadsValues && q->zero && q->zero.dtype == DType::kI32) {
      check(invalid(op, ": ", q == a.xq ? "x_zero" : "w_zero",
                    " must be int8 or uint8 for out_dtype=torch.int32 on CUDA, got int32; convert it with .to"));
    }
  }
  const int64_t x = largest(*a.xq->codes.format, a.xq->zero, a.m, a.xq->cols);
  const int64_t w = largest(*a.w.codes.format, a.w.zero, a.n, a.k);
  const int64_t product = std::max<int64_t>(1, std::max<int64_t>(1, x) * w);
  const int64_t most = 2147483647 / product;
  if (a.k > most) {
    check(invalid(op, ": k must be at most ", most, " for out_dtype=torch.int32 with ", a.xq->codes.format->name,
                  " times ", a.w.codes.format->name, ", got ", a.k,
                  "; a longer sum could overflow, leave out_dtype out"));
  }
}

}  // namespace

DType codes_out_dtype(const char* op, std::optional<ScalarType> asked, const GemmArgs& args) {
  if (!asked || *asked != ScalarType::Int) return out_dtype(op, asked, DType::kF32);
  check_raw(op, args);
  return DType::kI32;
}

GemmCall::GemmCall(const char* op, std::string_view w_format, bool experts) : op_(op), experts_(experts) {
  check(parse_spec(op, "w_format", w_format, &w_spec_));
}

void GemmCall::rows(const char* name, const Tensor& x) {
  dense_dtype_ = float_dtype(op_, name, x);
  args.x = rows_of(op_, name, x, &dense_hold_);
  args.m = args.x.rows;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) lead_.push_back(x.size(d));
}

void GemmCall::dense_x(const Tensor& x) {
  rows("x", x);
  const bool complex = w_spec_.element->is_complex();
  if (args.x.cols < 1 || (complex && args.x.cols % 2 != 0)) {
    check(invalid(op_, ": x must have ",
                  complex ? "2 K columns (real part, then imaginary part) for complex2 weights" : "at least one column",
                  ", got shape ", shape(x), "; the last dimension is K"));
  }
  args.k = complex ? args.x.cols / 2 : args.x.cols;
}

void GemmCall::coded_x(const QArgs& x, int64_t k) {
  coded_ = true;
  check_k(op_, k);
  args.k = k;
  Spec spec;
  check(parse_spec(op_, "x_format", x.format, &spec));
  if (spec.element->is_complex() || is_tiled(spec.layout)) {
    check(invalid(op_, ": x_format must be a real format in the canonical or plain layout, got \"",
                  std::string(x.format), "\"; complex and prepacked operands go to w"));
  }
  const bool planes = layout_of(spec, x.codes) == Layout::kCanonical && canonical(*spec.element) == Canonical::kPlanes;
  const int64_t dims = x.codes.dim();
  if (planes ? dims < 3 : dims < 1) {
    check(invalid(op_, ": x must be ", planes ? "planes [..., bits, M, ceil(K / 32)]" : "codes [..., K]",
                  " for format \"", std::string(x.format), "\", got shape ", shape(x.codes),
                  "; lowbit.ops.pack makes the canonical layout from codes [M, K]"));
  }
  for (int64_t d = 0; d < dims - 1; ++d) {
    if (!planes || d != dims - 3) lead_.push_back(x.codes.size(d));
  }
  const Tensor codes = merge_rows(x.codes, planes, lead_);
  const OptTensor scale = merge_rows(x.scale, spec.scale, lead_), zero = merge_rows(x.zero, nullptr, lead_);
  x_ = quantized({op_, x.name, codes, scale, zero, x.scale2, x.table, x.format}, width(k), false, &x_hold_);
  args.xq = &x_.matrix;
  args.m = x_.matrix.codes.rows;
}

void GemmCall::quantize_x(const QArgs& x) {
  dense_x(x.codes);
  dynamic_ = true;
  check(parse_spec(op_, "x_format", x.format, &x_.spec));
  const Spec& spec = x_.spec;
  if (spec.element->is_complex() || spec.element->kind == Kind::kCodebook || is_tiled(spec.layout)) {
    check(invalid(op_, ": x_format must be an integer, float or nf4 format when x is float, got \"",
                  std::string(x.format), "\"; quantize x with lowbit.ops.quantize first"));
  }
  if (!x.scale) {
    if (x.zero || x.scale2) {
      check(invalid(op_,
                    ": x_zero and x_scale2 must come with x_scale, got x_scale=None; leave all three out and x is "
                    "quantized block by block"));
    }
    return;
  }
  const OptTensor scale = merge_rows(x.scale, spec.scale, lead_), zero = merge_rows(x.zero, nullptr, lead_);
  block_values({op_, x.name, x.codes, scale, zero, x.scale2, x.table, x.format}, args.m, args.x.cols, false, &x_hold_,
               &x_);
}

void GemmCall::gradient(const Tensor& dy, int64_t k) {
  check_k(op_, k);
  rows("dy", dy);
  gradient_ = true;
  args.k = k;
}

void GemmCall::weight(const QArgs& w, int64_t code_cols) {
  w_ = quantized(w, args.k, experts_, &w_hold_, code_cols);
  if (w_.spec.element->is_complex() && w.zero) {
    check(invalid(op_, ": w_zero must be None for complex2 weights, got a tensor; they have no zero point"));
  }
  args.w = w_.matrix;
  args.n = w_.matrix.codes.rows;
  if (gradient_ && args.x.cols != width(args.n)) {
    check(invalid(op_, ": dy must have ", width(args.n), " columns, one per output of the weight, got ", args.x.cols,
                  "; pass the gradient of the output"));
  }
}

void GemmCall::bias(const OptTensor& bias) {
  if (!bias) return;
  check_device(op_, "bias", *bias);
  args.bias_dtype = float_dtype(op_, "bias", *bias);
  const int64_t rank = experts_ ? 2 : 1;
  if (bias->dim() != rank || bias->size(rank - 1) != out_cols() || (experts_ && bias->size(0) != w_.experts)) {
    check(invalid(op_, ": bias must have shape [", experts_ ? std::to_string(w_.experts) + ", " : std::string(),
                  out_cols(), "], got ", shape(*bias), "; one value per row of the weight"));
  }
  bias_hold_ = *bias;
  args.bias = bias->data_ptr();
  args.bias_stride = bias->stride(rank - 1);
}

std::vector<int64_t> GemmCall::out_sizes() const {
  std::vector<int64_t> sizes = lead_;
  sizes.push_back(out_cols());
  return sizes;
}

Tensor GemmCall::output(DType dtype) {
  const Tensor out = empty(out_sizes(), scalar_type(dtype));
  args.out = {out.data_ptr(), dtype, args.m, out_cols(), out_cols(), 1};
  return out;
}

void GemmCall::output_into(const Tensor& out, std::optional<ScalarType> asked) {
  const DType dtype = float_dtype(op_, "out", out);
  if (asked && *asked != out.scalar_type()) {
    check(invalid(op_, ": out_dtype must be the dtype of out, got ", dtype_name(*asked), " for ",
                  dtype_name(out.scalar_type()), "; leave it out"));
  }
  const std::vector<int64_t> sizes = out_sizes();
  bool fits = out.dim() == static_cast<int64_t>(sizes.size());
  for (size_t d = 0; fits && d < sizes.size(); ++d) fits = out.size(static_cast<int64_t>(d)) == sizes[d];
  if (!fits) {
    std::string want;
    for (const int64_t s : sizes) want += (want.empty() ? "" : ", ") + std::to_string(s);
    check(invalid(op_, ": out must have shape [", want, "], got ", shape(out), "; make it with torch.empty"));
  }
  args.out = out_rows_of(op_, "out", out);
  args.out.dtype = dtype;
}

cpu::Family GemmCall::family() const {
  if (!coded_ && !dynamic_) return cpu::family_of(nullptr, Layout::kPlain, *w_spec_.element);
  return cpu::family_of(x_.spec.element, dynamic_ ? Layout::kPlain : x_.matrix.codes.layout, *w_spec_.element);
}

void GemmCall::finish_x() {
  if (!dynamic_) return;
  check(backend::quantize_rows(op_, x_.spec, args.x, x_.matrix.scale, x_.matrix.zero, &quantized_));
  args.xq = &quantized_.matrix;
}

void GemmCall::run(cpu::Family family) {
  if (args.m == 0 || args.n == 0) return;
  finish_x();
  check(backend::run(family, args));
}

std::vector<GemmArgs> GemmCall::experts(const std::vector<int64_t>& ends, std::vector<Expert>* storage) const {
  std::vector<GemmArgs> all;
  storage->resize(ends.size());
  int64_t begin = 0;
  for (size_t e = 0; e < ends.size(); ++e) {
    Expert& expert = (*storage)[e];
    const auto index = static_cast<int64_t>(e);
    expert.args = cpu::rows_of(args, begin, ends[e], &expert.x, &expert.x_second);
    expert.args.w = w_.expert(index, &expert.w_second);
    if (args.bias != nullptr) {
      expert.args.bias = static_cast<const char*>(args.bias) + index * bias_hold_.stride(0) * size_of(args.bias_dtype);
    }
    all.push_back(expert.args);
    begin = ends[e];
  }
  return all;
}

backend::ExpertSteps GemmCall::expert_steps() const {
  const int64_t bias = args.bias != nullptr ? bias_hold_.stride(0) * size_of(args.bias_dtype) : 0;
  return {w_.codes_step, w_.scale_step, w_.scale2_step, w_.zero_step, bias};
}

void GemmCall::run_grouped(cpu::Family family, const std::vector<int64_t>& ends, const Tensor& offs) {
  if (args.m == 0 || args.n == 0) return;
  finish_x();
  if (backend::kExpertsAtOnce) {
    check(backend::grouped_at_once(args, expert_steps(), offs));
    return;
  }
  std::vector<Expert> storage;
  const std::vector<GemmArgs> all = experts(ends, &storage);
  check(backend::grouped(family, all.data(), static_cast<int64_t>(all.size())));
}

}  // namespace lowbit::bind
