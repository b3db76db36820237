#include "common/parallel.h"
#include "cuda/gemm.h"

namespace lowbit::cuda {

int64_t gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact) {
  GemmPlan plan;
  const Status status = plan_gemm(op, args, nullptr, device, exact, &plan);
  return status.ok() ? plan.workspace_bytes : 0;
}

Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call,
                const Device& device, bool exact) {
  if (args.m == 0 || args.n == 0) return Status();
  GemmPlan plan;
  LOWBIT_RETURN_IF_ERROR(plan_gemm(op, args, grouped, device, exact, &plan));
  void* workspace = nullptr;
  LOWBIT_RETURN_IF_ERROR(find_workspace(op, call, plan.workspace_bytes, &workspace));
  if (plan.splits > 1) {
    const size_t counters = 4 * static_cast<size_t>(plan.grid.x);
    plan.params.arrivals = static_cast<int32_t*>(workspace);
    plan.params.parts = static_cast<uint8_t*>(workspace) + round_up(static_cast<int64_t>(counters), 256);
    LOWBIT_RETURN_IF_ERROR(check_error(op, "cudaMemsetAsync", cudaMemsetAsync(workspace, 0, counters, call.stream)));
  }
  return launch(op, plan.narrow ? plan.kernels->narrow : plan.kernels->wide, plan.grid, plan.block, plan.shared_bytes,
                call.stream, plan.params);
}

Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(op, call, &device));
  return run_gemm(op, args, grouped, call, device, false);
}

}  // namespace lowbit::cuda
