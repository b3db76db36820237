#include <algorithm>
#include <numeric>

#include "common/parallel.h"
#include "cuda/binary_gemm.h"
#include "cuda/tile/binary_gemm.cuh"

namespace lowbit::cuda {
namespace {

// Blocks of this many steps at least: shorter ones wait for memory once, and then for the last of them.
constexpr int64_t kLeastShare = 2;

bool copies_wide(const Codes& c) {
  return reinterpret_cast<uintptr_t>(c.data) % 16 == 0 && c.row_stride % 4 == 0 && c.plane_stride % 4 == 0;
}
bool has_sign(const ElementFormat& f) { return f.rule == kSigned || f.rule == kTernary; }

ByteMap plane_map(const ElementFormat& f) { return f.rule == kBipolar ? ByteMap{0, 2, (1 << f.bits) - 1} : ByteMap{}; }

// The ends that segments and shares have in common.
int64_t shared_ends(int64_t segment, int64_t share) { return std::lcm(segment, share * Binary::kStepBits); }

BinaryParams params_of(const GemmArgs& args, const BinaryPlan& plan) {
  BinaryParams p{};
  GemmParams& g = p.gemm;
  g.w = Operand(args.w, args.n);
  g.x = Operand(*args.xq, args.m);
  g.w.bytes = plane_map(*args.w.codes.format);
  g.x.bytes = plane_map(*args.xq->codes.format);
  g.m = static_cast<int32_t>(args.m), g.n = static_cast<int32_t>(args.n), g.k = static_cast<int32_t>(args.k);
  g.raw = args.out.dtype == DType::kI32;
  g.x_scaled = true;
  g.x_scale_joins = args.xq->scale && args.xq->scale.block.cols != 0;
  g.x_sums = g.w.has_zero || g.w.bytes.offset != 0;
  g.w_sums = g.x.has_zero || g.x.bytes.offset != 0;
  g.bias = args.bias, g.bias_dtype = args.bias_dtype, g.bias_stride = args.bias_stride;
  g.outliers = args.w.outliers;
  g.out = args.out;
  g.across = Divisor(ceil_div(args.n, Binary::kRows));
  p.w = static_cast<const uint32_t*>(args.w.codes.data), p.x = static_cast<const uint32_t*>(args.xq->codes.data);
  p.w_row = args.w.codes.row_stride, p.w_plane = args.w.codes.plane_stride;
  p.x_row = args.xq->codes.row_stride, p.x_plane = args.xq->codes.plane_stride;
  p.x_planes = args.xq->codes.format->bits;
  p.w_signed = has_sign(*args.w.codes.format), p.x_signed = has_sign(*args.xq->codes.format);
  p.w_wide = copies_wide(args.w.codes), p.x_wide = copies_wide(args.xq->codes);
  p.segment = static_cast<int32_t>(binary_segment(args));
  p.scales = RowWindow(g.w.scale, args.k), p.zeros = RowWindow(g.w.zero, args.k);
  p.share = plan.share;
  p.shared_ends = static_cast<int32_t>(std::min<int64_t>(shared_ends(p.segment, p.share), INT32_MAX));
  return p;
}

struct BinaryKernel {
  void (*kernel)(BinaryParams);
  int64_t shared_bytes;
};
template <int kPlanes, int kTiles>
constexpr BinaryKernel kKernel = {binary_gemm<kPlanes, kTiles>, BinaryTile<kPlanes, kTiles>::kBytes};

template <int kPlanes>
BinaryKernel kernel_of(int tiles) {
  switch (tiles) {
    case 1: return kKernel<kPlanes, 1>;
    case 2: return kKernel<kPlanes, 2>;
    case 4: return kKernel<kPlanes, 4>;
    default: return kKernel<kPlanes, 8>;
  }
}
BinaryKernel kernel_of(int planes, int tiles) {
  switch (planes) {
    case 1: return kernel_of<1>(tiles);
    case 2: return kernel_of<2>(tiles);
    case 3: return kernel_of<3>(tiles);
    default: return kernel_of<4>(tiles);
  }
}

// The counters of arrival, then the records.
int64_t arrivals_bytes(const BinaryPlan& plan) { return round_up(4 * plan.blocks, 256); }

BinaryPlan plan_of(const GemmArgs& args, const Device& device) {
  const int planes = args.xq->codes.format->bits;
  return plan_binary_gemm(args.m, args.n, args.k, planes, binary_segment(args), device.multiprocessors);
}

}  // namespace

int64_t binary_segment(const GemmArgs& args) {
  int64_t segment = args.k;
  for (const BlockValues* v : {&args.w.scale, &args.w.zero, &args.xq->scale, &args.xq->zero}) {
    if (!*v || v->block.cols == 0 || v->block.cols >= args.k) continue;
    if (segment != args.k && segment != v->block.cols) return 0;
    segment = v->block.cols;
  }
  return segment == args.k || segment % 128 == 0 ? segment : 0;
}

BinaryPlan plan_binary_gemm(int64_t m, int64_t n, int64_t k, int planes, int64_t segment, int multiprocessors) {
  BinaryPlan plan{};
  plan.tiles = 1;
  while (8 * plan.tiles < std::min<int64_t>(m * planes, Binary::kMostColumns)) plan.tiles *= 2;
  const int64_t rows = 8 * plan.tiles / planes;
  plan.blocks = ceil_div(n, Binary::kRows) * ceil_div(m, rows);
  const int64_t steps = ceil_div(k, Binary::kStepBits);
  const int64_t wanted = 2 * multiprocessors / std::max<int64_t>(plan.blocks, 1);
  const int64_t splits = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(steps / kLeastShare, 1));
  plan.share = static_cast<int32_t>(ceil_div(steps, splits));
  plan.splits = static_cast<int32_t>(ceil_div(steps, plan.share));
  const int64_t last = k - 1;
  plan.pieces = last / segment + last / Binary::kStepBits / plan.share - last / shared_ends(segment, plan.share) + 1;
  if (plan.splits > 1) {
    plan.workspace_bytes = arrivals_bytes(plan) + 4 * plan.blocks * plan.pieces * binary_record(rows);
  }
  return plan;
}

int64_t binary_gemm_workspace(const GemmArgs& args, const Device& device) {
  return plan_of(args, device).workspace_bytes;
}

Status run_binary_gemm(const char* op, const GemmArgs& args, const Call& call, const Device& device) {
  LOWBIT_RETURN_IF_ERROR(check_size(op, "x", args.m, args.k));
  LOWBIT_RETURN_IF_ERROR(check_size(op, "w", args.n, args.k));
  const BinaryPlan plan = plan_of(args, device);
  if (plan.blocks > INT32_MAX) {
    return invalid(op, ": out must have less than 2^31 tiles on CUDA, got ", plan.blocks, "; cut x by rows");
  }
  void* workspace = nullptr;
  LOWBIT_RETURN_IF_ERROR(find_workspace(op, call, plan.workspace_bytes, &workspace));
  BinaryParams p = params_of(args, plan);
  if (plan.splits > 1) {
    const int64_t counters = arrivals_bytes(plan);
    p.gemm.arrivals = static_cast<int32_t*>(workspace);
    p.gemm.parts = static_cast<uint8_t*>(workspace) + counters;
    LOWBIT_RETURN_IF_ERROR(
        check_error(op, "cudaMemsetAsync", cudaMemsetAsync(workspace, 0, static_cast<size_t>(counters), call.stream)));
  }
  const BinaryKernel k = kernel_of(args.w.codes.format->bits, plan.tiles);
  return launch(op, k.kernel, dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(plan.splits)),
                dim3(Binary::kThreads), k.shared_bytes, call.stream, p);
}

}  // namespace lowbit::cuda
