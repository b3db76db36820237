// hadamard, hadamard.out: checks, views, calls.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <vector>

#include "cpu/dispatch.h"
#include "torch/args.h"
#include "torch/backend.h"

namespace lowbit::bind {
namespace {

constexpr const char* kOp = "hadamard";

// The values of `sign` in float32, refused unless they are +-1 (on CUDA, where that would be a wait, taken as they
// are).
Tensor sign_values(const Tensor& sign) {
  check_device(kOp, "sign", sign);
  const DType type = float_dtype(kOp, "sign", sign);
  if (sign.dim() != 1) {
    check(invalid("hadamard: sign must have 1 dimension, got shape ", shape(sign), "; flatten it"));
  }
  for (int64_t i = 0; i < sign.size(0) && backend::kReadsValues; ++i) {
    const float value = load_float(sign.data_ptr(), type, i * sign.stride(0));
    if (value != 1.0f && value != -1.0f) {
      check(invalid("hadamard: sign must be +1 or -1, got ", value, " at ", i,
                    "; scale with the argument scale, or multiply x beforehand"));
    }
  }
  return backend::visible(torch::stable::contiguous(torch::stable::to(sign, ScalarType::Float)));
}

bool same_memory(const Tensor& x, const Tensor& out) {
  if (x.data_ptr() != out.data_ptr() || x.scalar_type() != out.scalar_type()) return false;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (x.size(d) > 1 && x.stride(d) != out.stride(d)) return false;
  }
  return true;
}

void run(const Tensor& x, int64_t block, const OptTensor& sign, std::optional<double> scale, bool transpose,
         const Tensor& out) {
  float_dtype(kOp, "x", x);
  float_dtype(kOp, "out", out);
  if (shape(x) != shape(out)) {
    check(invalid("hadamard: out must have the shape of x, ", shape(x), ", got ", shape(out),
                  "; make it with torch.empty_like(x)"));
  }
  if (block < 0) check(invalid("hadamard: block must be at least 0, got ", block, "; 0 is the whole last dimension"));
  HadamardArgs args;
  Tensor hold;
  if (x.dim() > 0 && x.numel() == 0) {
    args.x.cols = args.out.cols = x.size(x.dim() - 1);
    if (args.x.cols == 0) return;
  } else {
    args.x = rows_of(kOp, "x", x, &hold);
    args.out = out_rows_of(kOp, "out", out);
    if (!same_memory(x, out)) check_no_overlap(kOp, "out", out, "x", x);
  }
  args.block = block ? block : args.x.cols;
  Tensor signs;
  if (sign) {
    signs = sign_values(*sign);
    args.sign = static_cast<const float*>(signs.data_ptr());
    args.sign_length = sign->size(0);
  }
  args.scale = static_cast<float>(scale ? *scale : 1.0 / std::sqrt(static_cast<double>(args.block)));
  args.transpose = transpose;
  cpu::ran("hadamard:ref");
  check(backend::kernels().hadamard(args, torch_parallel()));
}

Tensor hadamard(const Tensor& x, int64_t block, OptTensor sign, std::optional<double> scale, bool transpose) {
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d < x.dim(); ++d) sizes.push_back(x.size(d));
  Tensor out = empty(sizes, scalar_type(float_dtype(kOp, "x", x)));
  run(x, block, sign, scale, transpose, out);
  return out;
}

void hadamard_out(const Tensor& x, int64_t block, OptTensor sign, std::optional<double> scale, bool transpose,
                  Tensor out) {
  run(x, block, sign, scale, transpose, out);
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("hadamard", LOWBIT_BOX(&lowbit::bind::hadamard));
  m.impl("hadamard.autograd", LOWBIT_BOX(&lowbit::bind::hadamard));
  m.impl("hadamard.out", LOWBIT_BOX(&lowbit::bind::hadamard_out));
}
