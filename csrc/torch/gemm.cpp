// gemm, the front door: reads which of the three families serves the operands.
#include <torch/csrc/stable/library.h>

#include "torch/backend.h"
#include "torch/gemm_call.h"

namespace lowbit::bind {

namespace {

// K of codes of which each takes a byte.
int64_t columns_of_codes(const char* op, const Tensor& x, const Spec& spec, const Spec& w_spec,
                         std::optional<int64_t> k) {
  if (k) return *k;
  const bool one_each = layout_of(spec, x) == Layout::kPlain || canonical(*spec.element) == Canonical::kBytes;
  if (!one_each || x.dim() < 1) {
    check(invalid(op, ": k must be given when x is packed, got None; it is the number of columns of the weight"));
  }
  const int64_t cols = x.size(x.dim() - 1);
  return w_spec.element->is_complex() ? cols / 2 : cols;
}

}  // namespace

void gemm_x(GemmCall* call, const QArgs& x, const std::optional<std::string>& format, std::optional<int64_t> k) {
  if (!format) {
    if (x.scale || x.zero || x.scale2) {
      check(
          invalid(x.op, ": x_format must be given with x_scale, x_zero or x_scale2, got None; for instance \"int8\""));
    }
    if (!is_float(x.codes)) {
      check(invalid(x.op, ": x_format must be given when x holds codes, got None for ",
                    dtype_name(x.codes.scalar_type()), "; for instance \"int8\""));
    }
    call->dense_x(x.codes);
  } else if (is_float(x.codes)) {
    call->quantize_x(x);
  } else {
    Spec spec;
    check(parse_spec(x.op, "x_format", *format, &spec));
    call->coded_x(x, columns_of_codes(x.op, x.codes, spec, call->w_spec(), k));
  }
  if (k && *k != call->args.k) {
    check(invalid(x.op, ": k must be the number of columns of x, ", call->args.k, ", got ", *k,
                  "; leave it out when x is float"));
  }
}

namespace {

// All but the output.
void gather(GemmCall* call, const char* op, const Tensor& x, const Tensor& w, const OptTensor& w_scale,
            const OptTensor& w_zero, const std::string& w_format, const OptTensor& x_scale,
            const std::optional<std::string>& x_format, const OptTensor& bias, const OptTensor& x_zero,
            const OptTensor& x_scale2, const OptTensor& w_scale2, const OptTensor& w_table, std::optional<int64_t> k) {
  const OptTensor none;
  gemm_x(call, {op, "x", x, x_scale, x_zero, x_scale2, none, x_format ? *x_format : std::string_view()}, x_format, k);
  call->weight({op, "w", w, w_scale, w_zero, w_scale2, w_table, w_format});
  call->bias(bias);
}

Tensor gemm(const Tensor& x, const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero, std::string w_format,
            const OptTensor& x_scale, std::optional<std::string> x_format, const OptTensor& bias,
            std::optional<ScalarType> dtype, const OptTensor& x_zero, const OptTensor& x_scale2,
            const OptTensor& w_scale2, const OptTensor& w_table, std::optional<int64_t> k) {
  constexpr const char* op = "gemm";
  GemmCall call(op, w_format);
  gather(&call, op, x, w, w_scale, w_zero, w_format, x_scale, x_format, bias, x_zero, x_scale2, w_scale2, w_table, k);
  Tensor out = call.output(out_dtype(op, dtype, call.default_dtype()));
  call.run(call.family());
  return out;
}

void gemm_out(const Tensor& x, const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero, std::string w_format,
              const OptTensor& x_scale, std::optional<std::string> x_format, const OptTensor& bias,
              std::optional<ScalarType> dtype, const OptTensor& x_zero, const OptTensor& x_scale2,
              const OptTensor& w_scale2, const OptTensor& w_table, std::optional<int64_t> k, Tensor out) {
  constexpr const char* op = "gemm";
  GemmCall call(op, w_format);
  gather(&call, op, x, w, w_scale, w_zero, w_format, x_scale, x_format, bias, x_zero, x_scale2, w_scale2, w_table, k);
  call.output_into(out, dtype);
  check_no_overlap(op, "out", out, "x", x);
  check_no_overlap(op, "out", out, "w", w);
  const std::pair<const char*, const OptTensor*> others[] = {
      {"w_scale", &w_scale}, {"w_zero", &w_zero},     {"x_scale", &x_scale},   {"bias", &bias},
      {"x_zero", &x_zero},   {"x_scale2", &x_scale2}, {"w_scale2", &w_scale2}, {"w_table", &w_table}};
  for (const auto& [name, tensor] : others) {
    if (*tensor) check_no_overlap(op, "out", out, name, **tensor);
  }
  call.run(call.family());
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("gemm", LOWBIT_BOX(&lowbit::bind::gemm));
  m.impl("gemm.autograd", LOWBIT_BOX(&lowbit::bind::gemm));
  m.impl("gemm.out", LOWBIT_BOX(&lowbit::bind::gemm_out));
}
