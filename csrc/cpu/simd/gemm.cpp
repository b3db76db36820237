// The GEMM entries of an instruction set's kernel table.
#include "cpu/simd/gemm.h"

#include "cpu/dispatch.h"
#include "cpu/simd/gemm_engines.h"
#include "cpu/simd/popcount_gemm.h"
#include "cpu/simd/vector.h"
#include "ref/bitplane_gemm.h"
#include "ref/dequant_gemm.h"
#include "ref/scaled_gemm.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

bool is_native(const GemmArgs& a) {
  if (a.w.codes.format->is_complex()) return false;
  return a.xq == nullptr ||
         (!a.xq->codes.format->is_complex() && a.xq->high == nullptr && a.w.outliers.offsets == nullptr);
}

// As cpu::last_kernel() tells.
struct Names {
  const char *plain, *by_planes, *scaled;
};
#define LOWBIT_KERNEL_NAMES(family) \
  Names{LOWBIT_KERNEL(family), LOWBIT_KERNEL(family) ":popcount", LOWBIT_KERNEL(family) ":scaled"}

// Counts of bit planes where they are quicker: the sums are the same.
Status run(const Names& names, const GemmArgs& args, const Parallel& parallel) {
  cpu::GemmIsa isa = gemm_isa(args.m);
  const bool by_planes = cpu::find_plane_product(args, LOWBIT_ISA_STRING(LOWBIT_ISA_NAMESPACE), &isa.planes);
  if (by_planes) isa.engines[static_cast<int>(cpu::Numbers::kPlanes)] = popcount_engine(isa.planes);
  bool scaled = false;
  Status status = cpu::blocked_gemm(args, isa, parallel, &scaled);
  cpu::ran(by_planes ? names.by_planes : scaled ? names.scaled : names.plain);
  return status;
}

}  // namespace

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::bitplane_gemm(args, parallel);
  return run(LOWBIT_KERNEL_NAMES("bitplane_gemm"), args, parallel);
}

Status dequant_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::dequant_gemm(args, parallel);
  return run(LOWBIT_KERNEL_NAMES("dequant_gemm"), args, parallel);
}

Status scaled_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::scaled_gemm(args, parallel);
  return run(LOWBIT_KERNEL_NAMES("scaled_gemm"), args, parallel);
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
