#include "common/parallel.h"
#include "cuda/bitplane_gemm.h"
#include "cuda/gemm.h"
#include "cuda/tile/binary_gemm.cuh"

namespace lowbit::cuda {
namespace {

// A100: b1 at 8 times the rate of int8 (4,992 and 624 TOPS, NVIDIA's data sheet), so p q < 8; the same ratio is taken
// for sm_86, 89 and 90, where none is published. From sm_100 on ptxas makes eight int8 multiplies of a binary one.
constexpr BitplaneRule kRules[] = {{80, 90, 6, 8}};

bool are_planes(const Codes& c) {
  return c.layout == Layout::kCanonical && canonical(*c.format) == Canonical::kPlanes && c.format->is_int() &&
         !c.format->is_complex();
}

// A segment length that all scales and zero points share, or 0: none.
int64_t segment_of(const GemmArgs& args) {
  int64_t segment = args.k;
  for (const BlockValues* v : {&args.w.scale, &args.w.zero, &args.xq->scale, &args.xq->zero}) {
    if (!*v || v->block.cols == 0 || v->block.cols >= args.k) continue;
    if (segment != args.k && segment != v->block.cols) return 0;
    segment = v->block.cols;
  }
  return segment == args.k || segment % 128 == 0 ? segment : 0;
}

bool copies_wide(const Codes& c) {
  return reinterpret_cast<uintptr_t>(c.data) % 16 == 0 && c.row_stride % 4 == 0 && c.plane_stride % 4 == 0;
}

ByteMap plane_map(const ElementFormat& f) { return f.rule == kBipolar ? ByteMap{0, 2, (1 << f.bits) - 1} : ByteMap{}; }

template <int kPlanes>
Status run_binary(const Call& call, dim3 grid, const BinaryParams& p) {
  return launch("bitplane_gemm", binary_gemm<kPlanes>, grid, dim3(Binary::kThreads), Binary::bytes<kPlanes>(),
                call.stream, p);
}

Status run_binary(const GemmArgs& args, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(check_size("bitplane_gemm", "x", args.m, args.k));
  LOWBIT_RETURN_IF_ERROR(check_size("bitplane_gemm", "w", args.n, args.k));
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
  p.w = static_cast<const uint32_t*>(args.w.codes.data), p.x = static_cast<const uint32_t*>(args.xq->codes.data);
  p.w_row = args.w.codes.row_stride, p.w_plane = args.w.codes.plane_stride;
  p.x_row = args.xq->codes.row_stride, p.x_plane = args.xq->codes.plane_stride;
  p.x_planes = args.xq->codes.format->bits;
  const auto has_sign = [](const ElementFormat& f) { return f.rule == kSigned || f.rule == kTernary; };
  p.w_signed = has_sign(*args.w.codes.format), p.x_signed = has_sign(*args.xq->codes.format);
  p.w_wide = copies_wide(args.w.codes), p.x_wide = copies_wide(args.xq->codes);
  p.segment = static_cast<int32_t>(segment_of(args));
  const int64_t across = ceil_div(args.n, Binary::kRowsW);
  const int64_t tiles = across * ceil_div(args.m, Binary::kColumns / p.x_planes);
  if (tiles >= int64_t{1} << 31) {
    return invalid("bitplane_gemm: out must have less than 2^31 tiles on CUDA, got ", tiles, "; cut x by rows");
  }
  g.across = Divisor(across);
  const dim3 grid(static_cast<unsigned>(tiles));
  switch (args.w.codes.format->bits) {
    case 1: return run_binary<1>(call, grid, p);
    case 2: return run_binary<2>(call, grid, p);
    case 3: return run_binary<3>(call, grid, p);
    default: return run_binary<4>(call, grid, p);
  }
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
  const int64_t segment = segment_of(args);
  const int p = args.w.codes.format->bits, q = args.xq->codes.format->bits;
  // the sum of a segment stays in int32
  const int64_t largest = ((int64_t{1} << p) - 1) * ((int64_t{1} << q) - 1);
  if (segment == 0 || segment > INT32_MAX / largest) return BitplaneEngine::kInt8;
  return bitplane_engine(sm, p, q, args.m);
}

int64_t bitplane_gemm_workspace(const GemmArgs& args, const Device& device) {
  if (bitplane_engine(args, device.code.sm) == BitplaneEngine::kBinary) return 0;
  return gemm_workspace("bitplane_gemm", args, device, true);
}

Status bitplane_gemm(const GemmArgs& args, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of("bitplane_gemm", call, &device));
  if (args.m == 0 || args.n == 0) return Status();
  if (bitplane_engine(args, device.code.sm) == BitplaneEngine::kBinary) return run_binary(args, call);
  return run_gemm("bitplane_gemm", args, nullptr, call, device, true);
}

}  // namespace lowbit::cuda
