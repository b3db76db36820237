// stochastic_round, stochastic_round_update_: checks, views, calls.
#include "ref/stochastic_round.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "cpu/dispatch.h"
#include "torch/args.h"
#include "torch/backend.h"

namespace lowbit::bind {
namespace {

Tensor stochastic_round(const Tensor& x, std::string format, const Tensor& seed) {
  constexpr const char* op = "stochastic_round";
  backend::raise_earlier_findings();
  StochasticRoundArgs args;
  DType dtype = float_dtype(op, "x", x);
  if (format == "bfloat16") {
    args.format = &kBFloat16, dtype = DType::kBF16;
  } else if (format == "float16") {
    args.format = &kFloat16, dtype = DType::kF16;
  } else {
    check(parse_element(op, "format", format, &args.format));
  }
  if (args.format->is_complex() || args.format->kind == Kind::kCodebook) {
    check(invalid(op, ": format must be \"bfloat16\", \"float16\" or a format of real values of its own, got \"",
                  format, "\"; lowbit.ops.quantize rounds to tables"));
  }
  const Seed s = seed_of(op, seed);
  args.random = {s.seed, s.offset};
  Tensor hold;
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < x.dim(); ++i) sizes.push_back(x.size(i));
  Tensor out = empty(sizes, scalar_type(dtype));
  args.x = rows_of(op, "x", x.dim() == 0 ? torch::stable::unsqueeze(x, 0) : x, &hold);
  args.out = args.x;
  args.out.data = out.data_ptr();
  args.out.dtype = dtype;
  args.out.row_stride = args.x.cols;
  args.out.col_stride = 1;
  cpu::ran("stochastic_round:ref");
  check(backend::kernels().stochastic_round(args, torch_parallel()));
  return out;
}

void stochastic_round_update_(Tensor w, Tensor scale, OptTensor zero, const Tensor& dw, std::string format,
                              const Tensor& seed, bool rescale) {
  constexpr const char* op = "stochastic_round_update_";
  backend::raise_earlier_findings();
  Spec spec;
  check(parse_spec(op, "format", format, &spec));
  const ElementFormat& f = *spec.element;
  if (f.is_complex() || f.kind == Kind::kCodebook || spec.layout != Layout::kCanonical ||
      layout_of(spec, w) != Layout::kCanonical) {
    check(invalid(op, ": w must be canonical codes of a format of real values of its own, got format \"", format,
                  "\"; lowbit.ops.unprepack and lowbit.ops.pack make them"));
  }
  if (spec.scale_has_scale || (rescale && spec.scale != nullptr)) {
    check(invalid(op, ": format must have float scales", rescale ? " to rescale" : "", ", got \"", format,
                  "\"; requantize the updated weight with lowbit.ops.quantize"));
  }
  float_dtype(op, "dw", dw);
  const Seed s = seed_of(op, seed);
  const int64_t rank = codes_rank(f, Layout::kCanonical), lead = dw.dim() - 2;
  if (lead < 0 || lead > 1 || w.dim() != rank + lead) {
    check(invalid(op, ": dw must be [rows, K], or [experts, rows, K] where w has experts, got shape ", shape(dw),
                  " for w ", shape(w), "; flatten further dimensions"));
  }
  for (const Tensor* t : {&w, &scale}) {
    if (t->numel() > 0 && !t->is_contiguous()) {
      check(invalid(op, ": ", t == &w ? "w" : "scale", " must be contiguous to be updated in place, got shape ",
                    shape(*t), "; update a contiguous copy"));
    }
  }
  const int64_t rows = dw.size(lead), cols = dw.size(lead + 1), batch = lead ? dw.size(0) : 1;
  const OptTensor scale_in = scale, none;
  Hold hold;
  const QView view = quantized({op, "w", w, scale_in, zero, none, none, format, true}, cols, lead > 0, &hold);
  if (view.matrix.codes.rows != rows || (lead && view.experts != batch)) {
    check(invalid(op, ": dw must have the shape of the weight, got ", shape(dw), " for w ", shape(w),
                  "; dw is [..., rows, K] of the unquantized weight"));
  }
  if (rescale && zero &&
      !(f.is_int() && f.rule == kUnsigned && zero->is_contiguous() &&
        (zero->scalar_type() == ScalarType::Byte || zero->scalar_type() == ScalarType::Int))) {
    check(invalid(op, ": zero must be contiguous uint8 or int32 of an unsigned format to rescale, got ",
                  dtype_name(zero->scalar_type()), " for format \"", format, "\"; quantize the weight anew"));
  }
  check_no_overlap(op, "w", w, "dw", dw);

  Tensor dw_hold;
  const Matrix all = rows_of(op, "dw", dw, &dw_hold);
  WeightUpdateArgs args;
  args.random = {s.seed, s.offset};
  args.rescale = rescale;
  args.scaling.op = op;
  args.scaling.argument = "dw";
  args.scaling.spec = spec;
  args.scaling.asymmetric = zero.has_value();
  Tensor new_scale, new_zero;
  if (rescale) {
    const int64_t block_rows = Block::count(rows, spec.block.rows), groups = Block::count(cols, spec.block.cols);
    new_scale = empty({batch, block_rows, groups}, scale.scalar_type());
    new_zero = empty({batch, block_rows, groups}, ScalarType::Byte);
    if (new_scale.numel() != scale.numel() || (zero && new_zero.numel() != zero->numel())) {
      check(invalid(op, ": scale must have one value per block, ", new_scale.numel(), ", to rescale, got ",
                    shape(scale), "; expand it"));
    }
    args.scaling.scale = {nullptr, float_dtype(op, "scale", scale), nullptr, block_rows, groups};
    if (zero) args.scaling.zero = {nullptr, DType::kU8, nullptr, block_rows, groups};
  }
  BlockValues second;
  auto of_expert = [&](int64_t e) {
    args.w = view.expert(e, &second);
    args.dw = all;
    args.dw.rows = rows;
    args.dw.data = static_cast<char*>(all.data) + e * rows * all.row_stride * size_of(all.dtype);
    args.first_row = e * rows;
    if (rescale) {
      const int64_t at = e * args.scaling.scale.rows * args.scaling.scale.cols;
      args.scaling.scale.data = static_cast<char*>(new_scale.data_ptr()) + at * size_of(args.scaling.scale.dtype);
      if (zero) args.scaling.zero.data = static_cast<char*>(new_zero.data_ptr()) + at;
    }
    return args;
  };
  const int64_t count = rows > 0 ? batch : 0;
  // on CUDA the update computes its scales itself
  for (int64_t e = 0; e < count && backend::kReadsValues; ++e)
    check(ref::prepare_update(of_expert(e), torch_parallel()));
  for (int64_t e = 0; e < count; ++e) {
    cpu::ran("stochastic_round_update_:ref");
    check(backend::kernels().stochastic_round_update(of_expert(e), torch_parallel()));
  }
  if (rescale) {
    torch::stable::copy_(scale, torch::stable::view(new_scale, scale.sizes()));
    if (zero) torch::stable::copy_(*zero, torch::stable::view(new_zero, zero->sizes()));
  }
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("stochastic_round", LOWBIT_BOX(&lowbit::bind::stochastic_round));
  m.impl("stochastic_round_update_", LOWBIT_BOX(&lowbit::bind::stochastic_round_update_));
}
