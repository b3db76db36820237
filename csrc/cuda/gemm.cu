#include "common/parallel.h"
#include "cuda/gemm.h"
#include "cuda/tile/stripe_join.cuh"

namespace lowbit::cuda {
namespace {

// Behind the wide loop.
Status launch_join(const char* op, const GemmPlan& plan, const Call& call) {
  const bool integer = plan.engine == GemmEngine::kInt8 || plan.engine == GemmEngine::kInt4;
  const dim3 grid(plan.grid.x, static_cast<unsigned>(StripeRecord::fragments(plan.params.m)));
  return launch(op, integer ? join_stripes<true> : join_stripes<false>, grid, dim3(kWideThreads), 0, call.stream,
                plan.params, plan.splits);
}

}  // namespace

int64_t gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact,
                       const GroupedRows* grouped) {
  GemmPlan plan;
  const Status status = plan_gemm(op, args, grouped, device, exact, &plan);
  return status.ok() ? plan.workspace_bytes : 0;
}

Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call,
                const Device& device, bool exact) {
  if (args.m == 0 || args.n == 0) return Status();
  GemmPlan plan;
  LOWBIT_RETURN_IF_ERROR(plan_gemm(op, args, grouped, device, exact, &plan));
  void* workspace = nullptr;
  LOWBIT_RETURN_IF_ERROR(find_workspace(op, call, plan.workspace_bytes, &workspace));
  const bool stripes = plan.params.stripe_parts > 0;
  if (plan.splits > 1 || stripes) {
    const int64_t counters = 4 * int64_t{plan.grid.x} * (stripes ? plan.splits : 1);
    plan.params.arrivals = plan.params.counts = static_cast<int32_t*>(workspace);
    plan.params.parts = static_cast<uint8_t*>(workspace) + round_up(counters, 256);
    if (!stripes) {
      LOWBIT_RETURN_IF_ERROR(check_error(op, "cudaMemsetAsync",
                                         cudaMemsetAsync(workspace, 0, static_cast<size_t>(counters), call.stream)));
    }
  }
  LOWBIT_RETURN_IF_ERROR(launch(op, plan.narrow ? plan.kernels->narrow : plan.kernels->wide, plan.grid, plan.block,
                                plan.shared_bytes, call.stream, plan.params));
  return stripes ? launch_join(op, plan, call) : Status();
}

Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(op, call, &device));
  return run_gemm(op, args, grouped, call, device, false);
}

}  // namespace lowbit::cuda
