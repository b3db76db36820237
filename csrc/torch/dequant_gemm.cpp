// dequant_gemm, dequant_gemm_input_grad: checks, views, calls.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "torch/backend.h"
#include "torch/gemm_call.h"

namespace lowbit::bind {
namespace {

// The parts of a weight that lie beside its codes: groups of twice the width, and sparse outliers.
struct Extras {
  const OptTensor &high, &high_groups, &outlier_offsets, &outlier_cols, &outlier_values;
};

// What the views of the extras point to.
struct ExtrasHold {
  Tensor codes, groups, offsets, cols, values;
  Codes high;
};

// Values of an int32 index list, checked to be one.
const int32_t* indices(const char* op, const char* name, const Tensor& t, Tensor* hold) {
  check_device(op, name, t);
  if (t.scalar_type() != ScalarType::Int || t.dim() != 1) {
    check(invalid(op, ": ", name, " must be int32 with 1 dimension, got ", dtype_name(t.scalar_type()), " ", shape(t),
                  "; convert it with .to(torch.int32)"));
  }
  *hold = backend::visible(torch::stable::contiguous(t));
  return static_cast<const int32_t*>(hold->data_ptr());
}

const ElementFormat* twice_as_wide(const ElementFormat& f) {
  for (const ElementFormat& wide : kFormats) {
    if (f.is_int() && wide.is_int() && wide.rule == f.rule && wide.bits == 2 * f.bits) return &wide;
  }
  return nullptr;
}

int64_t finish_high(const char* op, const Spec& spec, const Extras& x, const ElementFormat& wide, int64_t cols,
                    ExtrasHold* hold, QMatrix* w) {
  Spec high = spec;
  high.element = &wide;
  hold->high = codes_view(op, "w_high", *x.high, wide, layout_of(high, *x.high), cols, 0, &hold->codes);
  w->high = &hold->high;
  return cols;
}

// Views w_high and returns the columns that it takes from w.
int64_t view_high(const char* op, const Spec& spec, const Extras& x, int64_t k, ExtrasHold* hold, QMatrix* w) {
  const ElementFormat* wide = twice_as_wide(*spec.element);
  if (wide == nullptr || spec.block.cols == 0) {
    check(invalid(op, ": w_format must be an integer of at most 4 bits in groups along K when w_high is given, got ",
                  spec.element->name, "; write for instance \"uint2:g16\", w_high is then uint4"));
  }
  w->high_groups = indices(op, "high_groups", *x.high_groups, &hold->groups);
  w->high_count = hold->groups.numel();
  w->group = spec.block.cols;
  const int64_t groups = Block::count(k, spec.block.cols);
  if (!backend::kReadsValues && k % spec.block.cols == 0)
    return finish_high(op, spec, x, *wide, w->high_count * w->group, hold, w);
  int64_t cols = 0, last = -1;
  const Tensor host = backend::on_host(hold->groups);
  const auto* list = static_cast<const int32_t*>(host.data_ptr());
  for (int64_t i = 0; i < w->high_count; ++i) {
    const int64_t g = list[i];
    if (g <= last || g >= groups) {
      check(invalid(op, ": high_groups must be ascending group numbers below ", groups, ", got ", g, " at position ", i,
                    "; sort them and leave none twice"));
    }
    last = g;
    cols += std::min(spec.block.cols, k - g * spec.block.cols);
  }
  return finish_high(op, spec, x, *wide, cols, hold, w);
}

void view_outliers(const char* op, const Extras& x, int64_t rows, int64_t k, ExtrasHold* hold, Outliers* o) {
  o->offsets = indices(op, "outlier_offsets", *x.outlier_offsets, &hold->offsets);
  o->cols = indices(op, "outlier_cols", *x.outlier_cols, &hold->cols);
  o->dtype = float_dtype(op, "outlier_values", *x.outlier_values);
  check_device(op, "outlier_values", *x.outlier_values);
  const int64_t count = hold->cols.numel();
  if (hold->offsets.numel() != rows + 1 || x.outlier_values->dim() != 1 || x.outlier_values->numel() != count) {
    check(invalid(op, ": outliers must be offsets [", rows + 1, "], cols and values of one length, got ",
                  shape(*x.outlier_offsets), ", ", shape(*x.outlier_cols), " and ", shape(*x.outlier_values),
                  "; they are the rows of the weight, compressed (CSR)"));
  }
  hold->values = backend::visible(torch::stable::contiguous(*x.outlier_values));
  o->values = hold->values.data_ptr();
  if (!backend::kReadsValues) return;
  const Tensor offsets_host = backend::on_host(hold->offsets), cols_host = backend::on_host(hold->cols);
  const auto* offsets = static_cast<const int32_t*>(offsets_host.data_ptr());
  const auto* cols = static_cast<const int32_t*>(cols_host.data_ptr());
  int64_t at = 0;
  for (int64_t r = 0; r <= rows; ++r) {
    if (offsets[r] < at || (r == 0 && offsets[r] != 0) || (r == rows && offsets[r] != count)) {
      check(invalid(op, ": outlier_offsets must ascend from 0 to the number of outliers ", count, ", got ", offsets[r],
                    " at row ", r, "; they are the rows of the weight, compressed (CSR)"));
    }
    at = offsets[r];
  }
  for (int64_t i = 0; i < count; ++i) {
    if (cols[i] < 0 || cols[i] >= k) {
      check(invalid(op, ": outlier_cols must be columns below K = ", k, ", got ", cols[i], " at position ", i,
                    "; one column per outlier"));
    }
  }
}

void view_weight(const char* op, GemmCall* call, const QArgs& w, const Extras& x, ExtrasHold* hold) {
  const bool any_high = x.high || x.high_groups;
  const bool any_outlier = x.outlier_offsets || x.outlier_cols || x.outlier_values;
  if (any_high && !(x.high && x.high_groups)) {
    check(invalid(op,
                  ": w_high and high_groups must be given together, got one of them; the second tells which groups "
                  "the first holds"));
  }
  if (any_outlier && !(x.outlier_offsets && x.outlier_cols && x.outlier_values)) {
    check(invalid(op,
                  ": outlier_offsets, outlier_cols and outlier_values must be given together, got some of them; "
                  "they are one matrix in compressed rows"));
  }
  if (call->w_spec().element->is_complex() && (any_high || any_outlier)) {
    check(invalid(op, ": w_high and outliers must be None for complex2 weights, got a tensor; leave them out"));
  }
  const int64_t k = call->args.k;
  QMatrix parts;
  call->weight(w, any_high ? k - view_high(op, call->w_spec(), x, k, hold, &parts) : -1);
  QMatrix& matrix = call->args.w;
  if (any_high) {
    const int64_t rows = is_tiled(hold->high.layout) ? ceil_div(matrix.codes.rows, kTileRows) : matrix.codes.rows;
    const int64_t high_rows = is_tiled(hold->high.layout) ? hold->codes.size(0) : hold->high.rows;
    if (rows != high_rows) {
      check(invalid(op, ": w_high must have the rows of w, got ", high_rows, " for ", rows,
                    "; both hold groups of the same rows"));
    }
    hold->high.rows = matrix.codes.rows;
    matrix.high = parts.high;
    matrix.high_groups = parts.high_groups;
    matrix.high_count = parts.high_count;
    matrix.group = parts.group;
  }
  if (any_outlier) view_outliers(op, x, matrix.codes.rows, k, hold, &matrix.outliers);
}

Tensor dequant_gemm(const Tensor& x, const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero,
                    std::string w_format, const OptTensor& w_scale2, const OptTensor& w_table, const OptTensor& w_high,
                    const OptTensor& high_groups, const OptTensor& outlier_offsets, const OptTensor& outlier_cols,
                    const OptTensor& outlier_values, const OptTensor& bias, std::optional<ScalarType> dtype) {
  constexpr const char* op = "dequant_gemm";
  GemmCall call(op, w_format);
  ExtrasHold hold;
  call.dense_x(x);
  view_weight(op, &call, {op, "w", w, w_scale, w_zero, w_scale2, w_table, w_format},
              {w_high, high_groups, outlier_offsets, outlier_cols, outlier_values}, &hold);
  call.bias(bias);
  Tensor out = call.output(out_dtype(op, dtype, call.default_dtype()));
  call.run(cpu::Family::kDequantGemm);
  return out;
}

Tensor dequant_gemm_input_grad(const Tensor& dy, const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero,
                               std::string w_format, int64_t k, const OptTensor& w_scale2, const OptTensor& w_table,
                               const OptTensor& w_high, const OptTensor& high_groups, const OptTensor& outlier_offsets,
                               const OptTensor& outlier_cols, const OptTensor& outlier_values,
                               std::optional<ScalarType> dtype) {
  constexpr const char* op = "dequant_gemm_input_grad";
  GemmCall call(op, w_format);
  ExtrasHold hold;
  call.gradient(dy, k);
  view_weight(op, &call, {op, "w", w, w_scale, w_zero, w_scale2, w_table, w_format},
              {w_high, high_groups, outlier_offsets, outlier_cols, outlier_values}, &hold);
  Tensor out = call.output(out_dtype(op, dtype, call.default_dtype()));
  if (call.args.m > 0) check(backend::dequant_gemm_input_grad(call.args));
  return out;
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("dequant_gemm", LOWBIT_BOX(&lowbit::bind::dequant_gemm));
  m.impl("dequant_gemm.autograd", LOWBIT_BOX(&lowbit::bind::dequant_gemm));
  m.impl("dequant_gemm_input_grad", LOWBIT_BOX(&lowbit::bind::dequant_gemm_input_grad));
}
