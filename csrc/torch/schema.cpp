// The schema of every op. Append-only: a new argument goes to the end, keyword-only, with a default (a test compares
// these with the checked-in tests/torch/schemas.txt). Meanings, shapes and errors: python/lowbit/ops.py.
//
// Conventions
//   format strings   grammar in common/spec.h: "int4:g64", "nvfp4", "uint2:g16/uint4:g16", "int4@tile16"
//   codes            canonical (formats/layout.h), or one code per byte as int8 / uint8 [..., rows, K] ("plain")
//   scale, zero      one value per block, [rows, ceil(K / block)]; per tensor: one element
//   scale2           the scales of the scales, where the format has two levels
//   seed             int64[2] = (seed, offset) of the Philox generator
//   k                columns of the matrix: packed layouts are padded, so their shape does not tell
// The overload `autograd` is the differentiable twin of the default one (gradients of activations and bias). Its
// tensors may not be keyword-only: the tensors of an autograd.Function are positional. An overload `out` returns
// nothing: torch.compile refuses to functionalize an op that returns its argument.
#include <torch/csrc/stable/library.h>

#include "torch/backend.h"

LOWBIT_LIBRARY(m) {
  // layouts
  m.def("pack(Tensor codes, str format, *, str layout=\"canonical\") -> Tensor");
  m.def("unpack(Tensor packed, str format, SymInt k, *, str layout=\"canonical\") -> Tensor");
  m.def("prepack(Tensor w, str format, SymInt k, *, str layout=\"tile16\") -> Tensor");
  m.def("unprepack(Tensor w, str format, SymInt n, SymInt k) -> Tensor");
  m.def("truncate(Tensor w, Tensor? scale, Tensor? zero, str format, int bits) -> (Tensor, Tensor, Tensor)");

  // quantize
  m.def(
      "quantize(Tensor x, str format, *, Tensor? scale=None, Tensor? zero=None, Tensor? scale2=None, "
      "Tensor? table=None, bool asymmetric=False, str rounding=\"nearest\", Tensor? seed=None, int hadamard=0, "
      "ScalarType? scale_dtype=None, str layout=\"canonical\") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "dequantize(Tensor w, Tensor? scale, Tensor? zero, str format, SymInt k, *, Tensor? scale2=None, "
      "Tensor? table=None, ScalarType? out_dtype=None) -> Tensor");

  // rows `ids` of a quantized matrix, dequantized: [*ids.shape, k]
  m.def(
      "embedding(Tensor ids, Tensor w, Tensor? scale, Tensor? zero, str format, SymInt k, *, Tensor? scale2=None, "
      "Tensor? table=None, ScalarType? out_dtype=None) -> Tensor");

  // stochastic_round
  m.def("stochastic_round(Tensor x, str format, Tensor seed) -> Tensor");
  m.def(
      "stochastic_round_update_(Tensor(a!) w, Tensor(b!) scale, Tensor(c!)? zero, Tensor dw, str format, "
      "Tensor seed, *, bool rescale=False) -> ()");

  // hadamard
  m.def("hadamard(Tensor x, *, int block=0, Tensor? sign=None, float? scale=None, bool transpose=False) -> Tensor");
  m.def(
      "hadamard.out(Tensor x, *, int block=0, Tensor? sign=None, float? scale=None, bool transpose=False, "
      "Tensor(a!) out) -> ()");
  m.def(
      "hadamard.autograd(Tensor x, int block=0, Tensor? sign=None, float? scale=None, bool transpose=False) "
      "-> Tensor");

  // bitplane_gemm
  m.def(
      "bitplane_gemm(Tensor x, Tensor? x_scale, Tensor? x_zero, str x_format, Tensor w, Tensor? w_scale, "
      "Tensor? w_zero, str w_format, SymInt k, *, Tensor? bias=None, ScalarType? out_dtype=None) -> Tensor");

  // dequant_gemm
#define LOWBIT_DEQUANT_GEMM(star)                                                                       \
  "(Tensor x, Tensor w, Tensor? w_scale, Tensor? w_zero, str w_format, " star                           \
  "Tensor? w_scale2=None, "                                                                             \
  "Tensor? w_table=None, Tensor? w_high=None, Tensor? high_groups=None, Tensor? outlier_offsets=None, " \
  "Tensor? outlier_cols=None, Tensor? outlier_values=None, Tensor? bias=None, ScalarType? out_dtype=None) -> Tensor"
  m.def("dequant_gemm" LOWBIT_DEQUANT_GEMM("*, "));
  m.def("dequant_gemm.autograd" LOWBIT_DEQUANT_GEMM(""));
  // dX = dY W for the weights of dequant_gemm: dy [..., N] -> [..., k]
  m.def(
      "dequant_gemm_input_grad(Tensor dy, Tensor w, Tensor? w_scale, Tensor? w_zero, str w_format, SymInt k, *, "
      "Tensor? w_scale2=None, Tensor? w_table=None, Tensor? w_high=None, Tensor? high_groups=None, "
      "Tensor? outlier_offsets=None, Tensor? outlier_cols=None, Tensor? outlier_values=None, "
      "ScalarType? out_dtype=None) -> Tensor");

  // scaled_gemm
  m.def(
      "scaled_gemm(Tensor x, Tensor? x_scale, str x_format, Tensor w, Tensor? w_scale, str w_format, SymInt k, *, "
      "Tensor? x_zero=None, Tensor? w_zero=None, Tensor? x_scale2=None, Tensor? w_scale2=None, Tensor? bias=None, "
      "ScalarType? out_dtype=None) -> Tensor");

  // gemm
#define LOWBIT_GEMM(star, out)                                                               \
  "(Tensor x, Tensor w, Tensor? w_scale, Tensor? w_zero, str w_format, " star                \
  "Tensor? x_scale=None, "                                                                   \
  "str? x_format=None, Tensor? bias=None, ScalarType? out_dtype=None, Tensor? x_zero=None, " \
  "Tensor? x_scale2=None, Tensor? w_scale2=None, Tensor? w_table=None, SymInt? k=None" out
  m.def("gemm" LOWBIT_GEMM("*, ", ") -> Tensor"));
  m.def("gemm.out" LOWBIT_GEMM("*, ", ", Tensor(a!) out) -> ()"));
  m.def("gemm.autograd" LOWBIT_GEMM("", ") -> Tensor"));

  // grouped_gemm
#define LOWBIT_GROUPED_GEMM(star)                                                            \
  "(Tensor x, Tensor w, Tensor? w_scale, Tensor? w_zero, Tensor offs, str w_format, " star   \
  "Tensor? x_scale=None, "                                                                   \
  "str? x_format=None, Tensor? bias=None, ScalarType? out_dtype=None, Tensor? x_zero=None, " \
  "Tensor? x_scale2=None, Tensor? w_scale2=None, Tensor? w_table=None, SymInt? k=None) -> Tensor"
  m.def("grouped_gemm" LOWBIT_GROUPED_GEMM("*, "));
  m.def("grouped_gemm.autograd" LOWBIT_GROUPED_GEMM(""));
  // dX of grouped_gemm: dy [rows, N], offs [experts] -> [rows, k]
  m.def(
      "grouped_gemm_input_grad(Tensor dy, Tensor w, Tensor? w_scale, Tensor? w_zero, Tensor offs, str w_format, "
      "SymInt k, *, Tensor? w_scale2=None, Tensor? w_table=None, ScalarType? out_dtype=None) -> Tensor");
}
