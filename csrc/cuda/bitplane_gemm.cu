#include <algorithm>

#include "cuda/binary_gemm.h"
#include "cuda/bitplane_gemm.h"
#include "cuda/byte_rows.h"

namespace lowbit::cuda {
namespace {

// A100: b1 at 8 times the rate of int8 (4,992 and 624 TOPS, NVIDIA's data sheet), so p q < 8; the same ratio is taken
// for sm_86, 89 and 90, where none is published. From sm_100 on ptxas makes eight int8 multiplies of a binary one.
constexpr BitplaneRule kRules[] = {{80, 90, 6, 8}};

bool are_planes(const Codes& c) {
  return c.layout == Layout::kCanonical && canonical(*c.format) == Canonical::kPlanes && c.format->is_int() &&
         !c.format->is_complex();
}

}  // namespace

BitplaneEngine bitplane_engine(int sm, int p, int q, int64_t m) {
  for (const BitplaneRule& rule : kRules) {
    if (sm < rule.sm_from || sm > rule.sm_to || p > kMaxBinaryPlanes) continue;
    if (p * q <= rule.planes || m <= rule.rows) return BitplaneEngine::kBinary;
  }
  return BitplaneEngine::kInt8;
}

BitplaneEngine bitplane_engine(const GemmArgs& args, int sm) {
  if (args.xq == nullptr || args.w.high != nullptr || args.xq->high != nullptr) return BitplaneEngine::kInt8;
  if (!is_integer_path(args) || !are_planes(args.w.codes) || !are_planes(args.xq->codes)) return BitplaneEngine::kInt8;
  const int64_t segment = binary_segment(args);
  const int p = args.w.codes.format->bits, q = args.xq->codes.format->bits;
  // the sum of a segment stays in int32
  const int64_t largest = ((int64_t{1} << p) - 1) * ((int64_t{1} << q) - 1);
  if (segment == 0 || segment > INT32_MAX / largest) return BitplaneEngine::kInt8;
  return bitplane_engine(sm, p, q, args.m);
}

int64_t bitplane_gemm_workspace(const GemmArgs& args, const Device& device) {
  if (bitplane_engine(args, device.code.sm) == BitplaneEngine::kBinary) return binary_gemm_workspace(args, device);
  return byte_rows_gemm_workspace("bitplane_gemm", args, device, true);
}

Status bitplane_gemm(const GemmArgs& args, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of("bitplane_gemm", call, &device));
  if (args.m == 0 || args.n == 0) return Status();
  if (bitplane_engine(args, device.code.sm) == BitplaneEngine::kBinary) {
    return run_binary_gemm("bitplane_gemm", args, call, device);
  }
  return run_byte_rows_gemm("bitplane_gemm", args, call, device, true);
}

}  // namespace lowbit::cuda
