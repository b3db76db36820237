// pack, unpack, prepack, unprepack: checks, views, calls.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <vector>

#include "cpu/dispatch.h"
#include "torch/args.h"

namespace lowbit::bind {
namespace {

const cpu::Kernels& kernels() {
  const cpu::Kernels* k = nullptr;
  check(cpu::kernels(&k));
  return *k;
}

Tensor pack(const Tensor& codes, std::string format, std::string layout) {
  const ElementFormat* f = nullptr;
  check(parse_element("pack", "format", format, &f));
  check_cpu("pack", "codes", codes);
  if (layout != "canonical") check(invalid("pack: layout must be canonical, got \"", layout, "\""));
  if (codes.scalar_type() != ScalarType::Byte || codes.dim() < 2) {
    check(invalid("pack: codes must be uint8 [..., rows, K], got ", dtype_name(codes.scalar_type()), " ", shape(codes),
                  "; convert them with .to(torch.uint8)"));
  }
  const Tensor in = torch::stable::contiguous(codes);
  const int64_t d = in.dim(), rows = in.size(d - 2), cols = in.size(d - 1);
  const bool planes = canonical(*f) == Canonical::kPlanes;
  std::vector<int64_t> sizes;
  int64_t batch = 1;
  for (int64_t i = 0; i + 2 < d; ++i) sizes.push_back(in.size(i)), batch *= in.size(i);
  if (planes) sizes.push_back(f->bits);
  sizes.push_back(rows);
  sizes.push_back(canonical_row(canonical(*f), cols));
  Tensor out = empty(sizes, planes ? ScalarType::Int : ScalarType::Byte);
  const int64_t step = batch == 0 ? 0 : out.numel() / batch * static_cast<int64_t>(out.element_size());
  for (int64_t b = 0; b < batch; ++b) {
    check(kernels().pack(*f, static_cast<const uint8_t*>(in.data_ptr()) + b * rows * cols, cols, rows, cols,
                         static_cast<char*>(out.data_ptr()) + b * step, torch_parallel()));
  }
  return out;
}

}  // namespace
}  // namespace lowbit::bind

STABLE_TORCH_LIBRARY_IMPL(lowbit, CPU, m) { m.impl("pack", TORCH_BOX(&lowbit::bind::pack)); }
