#include "ref/dequant_gemm.h"

namespace lowbit::ref {

Status dequant_gemm(const GemmArgs&, const Parallel&) { return unsupported("dequant_gemm: not built"); }
Status dequant_gemm_input_grad(const GemmArgs&, const Parallel&) { return unsupported("dequant_gemm: not built"); }

}  // namespace lowbit::ref
