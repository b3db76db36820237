// The GEMM entries of this folder's kernel table.
#include "cpu/avx512/gemm.h"

#include "cpu/avx512/gemm_common.h"
#include "cpu/dispatch.h"
#include "ref/bitplane_gemm.h"
#include "ref/dequant_gemm.h"
#include "ref/scaled_gemm.h"

namespace lowbit::avx512 {
namespace {

bool is_native(const GemmArgs& a) {
  if (a.w.codes.format->is_complex()) return false;
  return a.xq == nullptr ||
         (!a.xq->codes.format->is_complex() && a.xq->high == nullptr && a.w.outliers.offsets == nullptr);
}

Status run(const GemmArgs& args, const Parallel& parallel) {
  return cpu::blocked_gemm(args, cpu::bf16_dot_is_fast() ? kGemmIsa : kGemmIsaFma, parallel);
}

}  // namespace

Status bitplane_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::bitplane_gemm(args, parallel);
  cpu::ran("bitplane_gemm:avx512");
  return run(args, parallel);
}

Status dequant_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::dequant_gemm(args, parallel);
  cpu::ran("dequant_gemm:avx512");
  return run(args, parallel);
}

Status scaled_gemm(const GemmArgs& args, const Parallel& parallel) {
  if (!is_native(args)) return ref::scaled_gemm(args, parallel);
  cpu::ran("scaled_gemm:avx512");
  return run(args, parallel);
}

}  // namespace lowbit::avx512
