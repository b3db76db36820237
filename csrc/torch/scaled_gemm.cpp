// scaled_gemm: checks, views, calls.
#include <torch/csrc/stable/library.h>

#include "torch/backend.h"
#include "torch/gemm_call.h"

namespace lowbit::bind {
namespace {

// Formats that need values of their own have no argument for them here.
void check_no_table(const char* op, const char* argument, const std::string& format) {
  Spec spec;
  check(parse_spec(op, argument, format, &spec));
  if (spec.element->kind == Kind::kCodebook) {
    check(invalid(op, ": ", argument, " must be an integer, float or nf4 format, got \"", format,
                  "\"; lowbit.gemm takes the values of a table"));
  }
}

Tensor scaled_gemm(const Tensor& x, const OptTensor& x_scale, std::string x_format, const Tensor& w,
                   const OptTensor& w_scale, std::string w_format, int64_t k, const OptTensor& x_zero,
                   const OptTensor& w_zero, const OptTensor& x_scale2, const OptTensor& w_scale2, const OptTensor& bias,
                   std::optional<ScalarType> dtype) {
  constexpr const char* op = "scaled_gemm";
  check_no_table(op, "x_format", x_format);
  check_no_table(op, "w_format", w_format);
  const OptTensor none;
  GemmCall call(op, w_format);
  call.coded_x({op, "x", x, x_scale, x_zero, x_scale2, none, x_format}, k);
  call.weight({op, "w", w, w_scale, w_zero, w_scale2, none, w_format});
  call.bias(bias);
  Tensor out = call.output(codes_out_dtype(op, dtype, call.args));
  call.run(cpu::Family::kScaledGemm);
  return out;
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) { m.impl("scaled_gemm", LOWBIT_BOX(&lowbit::bind::scaled_gemm)); }
