#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <new>

#include "torch/backend.h"

namespace lowbit::bind::backend {

Scope::Scope() = default;
Scope::~Scope() = default;
void Scope::enter(const Tensor&) {}

const Tensor& visible(const Tensor& t) { return t; }
Tensor on_host(const Tensor& t) { return t; }
void raise_earlier_findings() {}
bool takes_seed(const Tensor&) { return false; }
bool is_here(const Tensor& t) { return t.is_cpu(); }
const char* device_name() { return "the CPU"; }

Tensor empty_strided(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int32_t dtype) {
  AtenTensorHandle handle = nullptr;
  if (aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), dtype,
                               aoti_torch_device_type_cpu(), 0, &handle) != 0) {
    throw std::bad_alloc();
  }
  return Tensor(handle);
}

const cpu::Kernels& kernels() {
  const cpu::Kernels* k = nullptr;
  check(cpu::kernels(&k));
  return *k;
}

Status run(cpu::Family family, const GemmArgs& args) { return cpu::run(family, args, torch_parallel()); }
Status dequant_gemm_input_grad(const GemmArgs& args) { return cpu::dequant_gemm_input_grad(args, torch_parallel()); }
Status grouped(cpu::Family family, const GemmArgs* args, int64_t count) {
  return cpu::grouped(family, args, count, torch_parallel());
}
Status grouped_input_grad(const GemmArgs* args, int64_t count) {
  return cpu::grouped_input_grad(args, count, torch_parallel());
}

namespace {
Status at_once() {
  return unsupported("grouped_gemm: experts must come one by one on the CPU, got all at once; see kExpertsAtOnce");
}
}  // namespace

Status grouped_at_once(const GemmArgs&, const ExpertSteps&, const Tensor&) { return at_once(); }
Status grouped_input_grad_at_once(const GemmArgs&, const ExpertSteps&, const Tensor&) { return at_once(); }

Status quantize_rows(const char* op, const Spec& spec, const Matrix& x, const BlockValues& scale,
                     const BlockValues& zero, QuantizedRows* out) {
  auto rows = std::make_shared<cpu::QuantizedRows>();
  LOWBIT_RETURN_IF_ERROR(cpu::quantize_rows(op, spec, x, scale, zero, torch_parallel(), rows.get()));
  out->matrix = rows->matrix;  // points into *rows
  out->hold = rows;
  return Status();
}

}  // namespace lowbit::bind::backend
