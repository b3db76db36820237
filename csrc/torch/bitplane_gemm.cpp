// bitplane_gemm: checks, views, calls.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "torch/gemm_call.h"

namespace lowbit::bind {
namespace {

// The largest |code - zero point| of an operand.
int64_t largest(const ElementFormat& f, const BlockValues& zero, int64_t rows, int64_t cols) {
  int64_t low = 0, high = 0;  // of the codes
  for (uint32_t c = 0; c < static_cast<uint32_t>(f.codes()); ++c) {
    const int64_t v = f.is_complex() ? 1 : decode_int(f, c);
    low = std::min(low, v), high = std::max(high, v);
  }
  if (!zero) return std::max(-low, high);
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

// The raw sum: no scale, bias or float zero point can enter it, and it must fit in 32 bits.
void check_raw(const char* op, const GemmArgs& a, bool scales) {
  if (scales || a.bias != nullptr) {
    check(invalid(op,
                  ": x_scale, w_scale and bias must be None for out_dtype=torch.int32, got a tensor; the raw sum is "
                  "that of the codes"));
  }
  for (const QMatrix* q : {a.xq, &a.w}) {
    if (q->zero && (q->zero.dtype == DType::kF32 || q->zero.dtype == DType::kBF16 || q->zero.dtype == DType::kF16)) {
      check(invalid(op, ": ", q == a.xq ? "x_zero" : "w_zero",
                    " must hold integers for out_dtype=torch.int32, got floats; leave out_dtype out"));
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
  const bool raw = dtype && *dtype == ScalarType::Int;
  if (raw) check_raw(op, call.args, x_scale || w_scale);
  Tensor out = call.output(raw ? DType::kI32 : out_dtype(op, dtype, DType::kF32));
  call.run(cpu::Family::kBitplaneGemm);
  return out;
}

}  // namespace
}  // namespace lowbit::bind

STABLE_TORCH_LIBRARY_IMPL(lowbit, CPU, m) { m.impl("bitplane_gemm", TORCH_BOX(&lowbit::bind::bitplane_gemm)); }
