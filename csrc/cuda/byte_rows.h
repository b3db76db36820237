// Rows of x in bit planes, turned into bytes for the int8 engine (gemm.h) by a kernel of their own. The engine's steps
// are 64 columns, 8 bytes of a row of a plane where a sector has 32, and every block along N would decode the same rows
// anew; bytes are copied as they lie.
#pragma once

#include "cuda/gemm_call.h"

namespace lowbit::cuda {

// gemm_workspace and run_gemm (gemm_call.h), by way of bytes where x is planes and the engine int8. The bits are the
// same.
int64_t byte_rows_gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact = false);
Status run_byte_rows_gemm(const char* op, const GemmArgs& args, const Call& call, const Device& device, bool exact);
// On the device of the call.
Status run_byte_rows_gemm(const char* op, const GemmArgs& args, const Call& call);

}  // namespace lowbit::cuda
