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

// Counts of bit planes where they are quicker: the sums are the same.
Status run(const char* name, const char* by_planes, const GemmArgs& args, const Parallel& parallel) {
  cpu::GemmIsa isa = gemm_isa(args.m);
  if (cpu::find_plane_product(args, LOWBIT_ISA_STRING(LOWBIT_ISA_NAMESPACE), &isa.planes)) {
    isa.engines[static_cast<int>(cpu::Numbers::kPlanes)] = popcount_engine(isa.planes);
    name = by_planes;
  }
  cpu::ran(name);
  return cpu::blocked_gemm(args, isa, parallel);
}

}  // namespace

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::bitplane_gemm(args, parallel);
  return run(LOWBIT_KERNEL("bitplane_gemm"), LOWBIT_KERNEL("bitplane_gemm") ":popcount", args, parallel);
}

Status dequant_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::dequant_gemm(args, parallel);
  cpu::ran(LOWBIT_KERNEL("dequant_gemm"));
  return cpu::blocked_gemm(args, gemm_isa(args.m), parallel);
}

Status scaled_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::scaled_gemm(args, parallel);
  return run(LOWBIT_KERNEL("scaled_gemm"), LOWBIT_KERNEL("scaled_gemm") ":popcount", args, parallel);
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
