#include "cuda/grouped_gemm.h"

#include "cuda/input_grad.h"

namespace lowbit::cuda {
namespace {

// What no expert has of its own.
Status check_grouped(const char* op, const GemmArgs& args, const GroupedRows& grouped) {
  if (args.w.high != nullptr || args.w.outliers.offsets != nullptr) {
    return unsupported(op, ": w must have one width and no outliers, got ",
                       args.w.high != nullptr ? "two widths" : "outliers", "; call dequant_gemm for each expert");
  }
  if (grouped.offs == nullptr && grouped.experts > 0) {
    return invalid(op, ": offs must have ", grouped.experts, " ends of rows, got none; pass an int32 tensor");
  }
  return Status();
}

}  // namespace

int64_t grouped_gemm_workspace(const GemmArgs& args, const GroupedRows& grouped, const Device& device) {
  return gemm_workspace("grouped_gemm", args, device, false, &grouped);
}

Status grouped_gemm(const GemmArgs& args, const GroupedRows& grouped, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(check_grouped("grouped_gemm", args, grouped));
  if (grouped.experts == 0 || args.m == 0) return Status();
  return run_gemm("grouped_gemm", args, &grouped, call);
}

Status grouped_gemm_input_grad(const GemmArgs& args, const GroupedRows& grouped, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(check_grouped("grouped_gemm_input_grad", args, grouped));
  if (grouped.experts == 0 || args.m == 0) return Status();
  return run_input_grad("grouped_gemm_input_grad", args, &grouped, call);
}

}  // namespace lowbit::cuda
