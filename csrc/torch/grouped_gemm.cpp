// grouped_gemm, grouped_gemm_input_grad: many experts, rows sorted by expert. Checks, views, calls.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "torch/backend.h"
#include "torch/gemm_call.h"

namespace lowbit::bind {
namespace {

// The row at which each expert ends.
std::vector<int64_t> ends_of(const char* op, const Tensor& offs, int64_t experts, int64_t rows) {
  check_device(op, "offs", offs);
  if (offs.scalar_type() != ScalarType::Int || offs.dim() != 1 || offs.size(0) != experts) {
    check(invalid(op, ": offs must be int32 [", experts, "], one end per expert, got ", dtype_name(offs.scalar_type()),
                  " ", shape(offs), "; it is torch.cumsum(rows of each expert, 0, dtype=torch.int32)"));
  }
  if (!backend::kReadsValues) return {};  // the kernels keep within the rows there are
  const Tensor host = backend::on_host(offs);
  const auto* data = static_cast<const int32_t*>(host.data_ptr());
  std::vector<int64_t> ends;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t end = data[e * host.stride(0)], before = ends.empty() ? 0 : ends.back();
    if (end < before || end > rows || (e + 1 == experts && end != rows)) {
      check(invalid(op, ": offs must ascend from 0 to the ", rows, " rows of x, got ", end, " for expert ", e,
                    "; it is torch.cumsum(rows of each expert, 0, dtype=torch.int32)"));
    }
    ends.push_back(end);
  }
  if (experts == 0 && rows > 0) {
    check(invalid(op, ": w must have at least one expert for ", rows, " rows of x, got none; pass an empty x"));
  }
  return ends;
}

void check_matrix(const char* op, const char* name, const Tensor& t) {
  if (t.dim() != 2) {
    check(invalid(op, ": ", name, " must be [rows, columns] with the rows sorted by expert, got shape ", shape(t),
                  "; flatten the batch and sort it first"));
  }
}

// An expert's rows are cut out of the scales of x: no block of rows may straddle two experts.
void check_row_blocks(const char* op, const Spec& spec, const std::string& format) {
  if (spec.block.rows > 1 || spec.scale_block.rows > 1) {
    check(invalid(op, ": x_format must have scales for single rows or for the tensor, got \"", format,
                  "\"; use for instance \"", spec.element->name, ":g128\""));
  }
}

Tensor grouped_gemm(const Tensor& x, const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero,
                    const Tensor& offs, std::string w_format, const OptTensor& x_scale,
                    std::optional<std::string> x_format, const OptTensor& bias, std::optional<ScalarType> dtype,
                    const OptTensor& x_zero, const OptTensor& x_scale2, const OptTensor& w_scale2,
                    const OptTensor& w_table, std::optional<int64_t> k) {
  constexpr const char* op = "grouped_gemm";
  const OptTensor none;
  GemmCall call(op, w_format, true);
  gemm_x(&call, {op, "x", x, x_scale, x_zero, x_scale2, none, x_format ? *x_format : std::string_view()}, x_format, k);
  if (call.lead().size() != 1) check_matrix(op, "x", x);
  if (x_format) check_row_blocks(op, call.x_spec(), *x_format);
  call.weight({op, "w", w, w_scale, w_zero, w_scale2, w_table, w_format});
  call.bias(bias);
  const std::vector<int64_t> ends = ends_of(op, offs, call.expert_count(), call.args.m);
  Tensor out = call.output(out_dtype(op, dtype, call.default_dtype()));
  call.run_grouped(call.family(), ends, backend::visible(torch::stable::contiguous(offs)));
  return out;
}

Tensor grouped_gemm_input_grad(const Tensor& dy, const Tensor& w, const OptTensor& w_scale, const OptTensor& w_zero,
                               const Tensor& offs, std::string w_format, int64_t k, const OptTensor& w_scale2,
                               const OptTensor& w_table, std::optional<ScalarType> dtype) {
  constexpr const char* op = "grouped_gemm_input_grad";
  GemmCall call(op, w_format, true);
  check_matrix(op, "dy", dy);
  call.gradient(dy, k);
  call.weight({op, "w", w, w_scale, w_zero, w_scale2, w_table, w_format});
  const std::vector<int64_t> ends = ends_of(op, offs, call.expert_count(), call.args.m);
  Tensor out = call.output(out_dtype(op, dtype, call.default_dtype()));
  if (backend::kExpertsAtOnce) {
    const Tensor ends_here = backend::visible(torch::stable::contiguous(offs));
    if (call.args.m > 0) check(backend::grouped_input_grad_at_once(call.args, call.expert_steps(), ends_here));
    return out;
  }
  std::vector<GemmCall::Expert> storage;
  const std::vector<GemmArgs> all = call.experts(ends, &storage);
  check(backend::grouped_input_grad(all.data(), static_cast<int64_t>(all.size())));
  return out;
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("grouped_gemm", LOWBIT_BOX(&lowbit::bind::grouped_gemm));
  m.impl("grouped_gemm.autograd", LOWBIT_BOX(&lowbit::bind::grouped_gemm));
  m.impl("grouped_gemm_input_grad", LOWBIT_BOX(&lowbit::bind::grouped_gemm_input_grad));
}
