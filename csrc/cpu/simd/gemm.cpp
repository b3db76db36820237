// The GEMM entries of an instruction set's kernel table.
#include "cpu/simd/gemm.h"

#include "cpu/dispatch.h"
#include "cpu/simd/gemm_engines.h"
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

Status run(const GemmArgs& args, const Parallel& parallel) {
  return cpu::blocked_gemm(args, gemm_isa(args.m), parallel);
}

}  // namespace

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::bitplane_gemm(args, parallel);
  cpu::ran(LOWBIT_KERNEL("bitplane_gemm"));
  return run(args, parallel);
}

Status dequant_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::dequant_gemm(args, parallel);
  cpu::ran(LOWBIT_KERNEL("dequant_gemm"));
  return run(args, parallel);
}

Status scaled_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::scaled_gemm(args, parallel);
  cpu::ran(LOWBIT_KERNEL("scaled_gemm"));
  return run(args, parallel);
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
