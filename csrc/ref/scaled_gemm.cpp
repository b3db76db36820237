#include "ref/scaled_gemm.h"

namespace lowbit::ref {

Status scaled_gemm(const GemmArgs&, const Parallel&) { return unsupported("scaled_gemm: not built"); }

}  // namespace lowbit::ref
