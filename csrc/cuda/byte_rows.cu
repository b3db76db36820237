#include "common/parallel.h"
#include "cuda/byte_rows.h"
#include "cuda/gemm.h"
#include "cuda/tile/code_rows.cuh"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;

// Codes of integers as the bytes of an 8-bit format: (code * 2^shift ^ flip) - minus.
struct ByteValues {
  int shift = 0;
  uint32_t flip = 0, minus = 0;  // in every byte

  ByteValues() = default;
  explicit ByteValues(const ElementFormat& f) {
    if (f.bits == 8 || f.rule == kUnsigned) return;
    const uint32_t top = (1u << (f.bits - 1)) * 0x01010101u;
    if (f.rule == kBipolar) {  // 2 code - (2^bits - 1)
      shift = 1;
      minus = ((1u << f.bits) - 1u) * 0x01010101u;
    } else {  // the sign bit goes up
      flip = minus = top;
    }
  }
  __device__ __forceinline__ uint32_t operator()(uint32_t codes) const {
    const uint32_t v = codes << shift ^ flip;  // 7 bits at most were shifted: none leave their byte
    // bytes less bytes: no borrow passes a top bit that was set, which is then put right
    return ((v | 0x80808080u) - (minus & 0x7f7f7f7fu)) ^ ((v ^ ~minus) & 0x80808080u);
  }
};

__global__ void __launch_bounds__(kThreads)
    byte_rows(const CodeRows from, const CodeRows to, const Tiling tiling, const ByteValues values) {
  const Place p(tiling, static_cast<int32_t>(blockIdx.x));
  Codes32 x = from.load(p.r, p.c / kVector);
#pragma unroll
  for (int i = 0; i < 8; ++i) x.word[i] = values(x.word[i]);
  to.store(p.r, p.c / kVector, x);
}

int64_t byte_row(const GemmArgs& args) { return round_up(args.xq->codes.cols, 64); }  // two lanes' 64 bytes are whole

// x of the same values in bytes at `to`.
QMatrix byte_matrix(const GemmArgs& args, void* to) {
  QMatrix x = *args.xq;
  if (x.codes.format->bits < 8) x.codes.format = find_format("int8");
  x.codes.data = to;
  x.codes.layout = Layout::kPlain;
  x.codes.row_stride = byte_row(args);
  x.codes.plane_stride = 0;
  return x;
}

bool goes_by_bytes(const char* op, const GemmArgs& args, const Device& device, bool exact) {
  if (args.xq == nullptr || args.m == 0 || args.n == 0) return false;
  const Codes& c = args.xq->codes;
  if (c.layout != Layout::kCanonical || canonical(*c.format) != Canonical::kPlanes || !c.format->is_int() ||
      c.format->is_complex() || args.xq->high != nullptr) {
    return false;
  }
  GemmPlan plan;
  return plan_gemm(op, args, nullptr, device, exact, &plan).ok() && plan.engine == GemmEngine::kInt8;
}

int64_t inner_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact) {
  return round_up(gemm_workspace(op, args, device, exact), 256);
}

}  // namespace

int64_t byte_rows_gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact) {
  if (!goes_by_bytes(op, args, device, exact)) return gemm_workspace(op, args, device, exact);
  const QMatrix x = byte_matrix(args, nullptr);
  GemmArgs bytes = args;
  bytes.xq = &x;
  return inner_workspace(op, bytes, device, exact) + args.m * byte_row(args);
}

Status run_byte_rows_gemm(const char* op, const GemmArgs& args, const Call& call, const Device& device, bool exact) {
  if (!goes_by_bytes(op, args, device, exact)) return run_gemm(op, args, nullptr, call, device, exact);
  QMatrix x = byte_matrix(args, nullptr);
  GemmArgs bytes = args;
  bytes.xq = &x;
  Call inner = call;
  inner.allocate = nullptr;
  inner.workspace_bytes = inner_workspace(op, bytes, device, exact);
  const int64_t row = byte_row(args);
  LOWBIT_RETURN_IF_ERROR(find_workspace(op, call, inner.workspace_bytes + args.m * row, &inner.workspace));
  auto* to = static_cast<uint8_t*>(inner.workspace) + inner.workspace_bytes;
  x.codes.data = to;
  const Tiling tiling = Tiling::of(args.m, row / 32 * kVector);
  LOWBIT_RETURN_IF_ERROR(launch(op, byte_rows, dim3(tiling.grid()), dim3(static_cast<unsigned>(tiling.threads)), 0,
                                call.stream, CodeRows::of(args.xq->codes), CodeRows::plain(to, 8, args.m, row, row),
                                tiling, ByteValues(*args.xq->codes.format)));
  return run_gemm(op, bytes, nullptr, inner, device, exact);
}

Status run_byte_rows_gemm(const char* op, const GemmArgs& args, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(op, call, &device));
  return run_byte_rows_gemm(op, args, call, device, false);
}

}  // namespace lowbit::cuda
