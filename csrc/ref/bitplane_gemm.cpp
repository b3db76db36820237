#include "ref/bitplane_gemm.h"

namespace lowbit::ref {

Status bitplane_gemm(const GemmArgs&, const Parallel&) { return unsupported("bitplane_gemm: not built"); }

}  // namespace lowbit::ref
