// bitplane_gemm: checks, views, calls.
#include <torch/csrc/stable/library.h>

#include "torch/backend.h"
#include "torch/gemm_call.h"

namespace lowbit::bind {
namespace {

Tensor bitplane_gemm(const Tensor& x, const OptTensor& x_scale, const OptTensor& x_zero, std::string x_format,
                     const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero, std::string w_format,
                     int64_t k, const OptTensor& bias, std::optional<ScalarType> dtype) {
  constexpr const char* op = "bitplane_gemm";
  const OptTensor none;
  for (const auto& [argument, format] : {std::pair("x_format", &x_format), std::pair("w_format", &w_format)}) {
    Spec spec;
    check(parse_spec(op, argument, *format, &spec));
    if (!spec.element->is_int() || spec.scale_has_scale) {
      check(invalid(op, ": ", argument, " must be an integer, bipolar, ternary or (w) complex format, got \"", *format,
                    "\"; lowbit.gemm multiplies the other formats"));
    }
  }
  GemmCall call(op, w_format);
  call.coded_x({op, "x", x, x_scale, x_zero, none, none, x_format}, k);
  call.weight({op, "w", w, w_scale, w_zero, none, none, w_format});
  if (!is_integer_path(call.args)) {
    check(invalid(op, ": x_zero must hold integers, got floats; convert it with .to(torch.int32), or use lowbit.gemm"));
  }
  call.bias(bias);
  Tensor out = call.output(codes_out_dtype(op, dtype, call.args));
  call.run(cpu::Family::kBitplaneGemm);
  return out;
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) { m.impl("bitplane_gemm", LOWBIT_BOX(&lowbit::bind::bitplane_gemm)); }
