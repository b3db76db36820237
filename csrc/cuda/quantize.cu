#include <algorithm>
#include <type_traits>

#include "common/parallel.h"
#include "cuda/quantize.h"
#include "cuda/quantize_complex.h"
#include "cuda/scaling.h"
#include "cuda/tile/hadamard.cuh"
#include "cuda/tile/random.cuh"
#include "cuda/tile/scales.cuh"
#include "cuda/tile/vectors.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kRegisters = 80;  // three blocks of 256 threads on a multiprocessor, and nothing spills
constexpr int kKept = 12288;    // columns of a row that wait in shared memory for their scale

struct Input {
  Matrix x;
  bool aligned = false;
  int32_t rows = 0, cols = 0;
  FusedHadamard hadamard;

  explicit Input(const QuantizeArgs& a)
      : x(a.x),
        aligned(is_vector_aligned(a.x)),
        rows(static_cast<int32_t>(a.rows)),
        cols(static_cast<int32_t>(a.cols)),
        hadamard(a.hadamard) {
    x.rows = a.rows;
    x.cols = a.cols;
  }
  __device__ __forceinline__ void load(int32_t r, int32_t c, bool valid, float (&v)[kVector], float* exchange) const {
    load_vector(x, aligned, r, c, valid, v);
    hadamard(v, exchange);
  }
};

// How scales are made where a block lies in one row and its scale has none of its own.
struct OwnScales {
  ScaleMaker maker;
  void* scale = nullptr;  // floats, or codes of a byte
  uint8_t* zero = nullptr;
  int32_t in_row = 0;  // blocks
  Divisor block_of;    // columns to blocks
  int32_t* findings = nullptr;

  explicit OwnScales(const Scaling& s, const Call& call)
      : maker(s),
        scale(s.scale.data),
        zero(static_cast<uint8_t*>(s.zero.data)),
        in_row(static_cast<int32_t>(s.scale.cols)),
        block_of(s.spec.block.cols),
        findings(call.findings) {}

  // Those of block `block` and extent e; `writer` stores them.
  __device__ __forceinline__ void make(const Extent& e, int64_t block, bool writer, float* s, float* z) const {
    const float unit_extent = maker.unit_extent();
    if (maker.kind == ScaleMaker::Kind::kFloat) {
      *s = maker.stored(e.width(), unit_extent);
      if (writer) store_value(scale, maker.dtype, block, *s);
    } else {
      const uint32_t code = maker.code(e.width(), unit_extent, unit_extent);
      *s = maker.value(code);
      if (writer) static_cast<uint8_t*>(scale)[block] = static_cast<uint8_t>(code);
    }
    if (writer && !e.finite()) report(findings, kNonFinite);
    if (writer && !is_finite(*s)) report(findings, kScaleOverflow);
    *s *= maker.unit;
    if (maker.asymmetric) {
      const uint32_t code = maker.zero_code(e, *s);
      *z = static_cast<float>(code);
      if (writer) zero[block] = static_cast<uint8_t>(code);
    }
  }
};

template <class Coder>
struct Output {
  Coder coder;
  CodeLayout codes;
  Philox random;
  const int64_t* seed = nullptr;
  int64_t first_row = 0;
  bool has_zero = false;

  explicit Output(const Coder& c, const QuantizeArgs& a, const Call& call)
      : coder(c),
        codes(CodeLayout::contiguous(*a.scaling.spec.element, a.layout, a.codes, a.rows, a.cols)),
        random(a.random),
        seed(call.seed),
        first_row(a.first_row),
        has_zero(a.zero || a.scaling.zero) {}
};

// Encodes and stores eight elements. `scale_at(c, &s, &z)` gives scale and zero point of column c; where `uniform`,
// those of the first hold for all eight.
template <bool kStochastic, class Coder, class ScaleAt>
__device__ __forceinline__ void emit(const Output<Coder>& out, const Coder& coder, const Philox& random, int32_t r,
                                     int32_t c, bool valid, float (&v)[kVector], bool uniform,
                                     const ScaleAt& scale_at) {
  const CodeLayout& to = out.codes;
  const bool any = valid && c < to.cols;
  Codes8 codes;
  if (any) {
    Random8 bits;
    if constexpr (kStochastic) bits = Random8(random, static_cast<uint64_t>((out.first_row + r) * to.cols + c));
    const auto code_of = [&](float t, float s, float z, uint32_t random_bits) -> uint32_t {
      float y = s == 0 ? 0.0f : t / s;
      if (out.has_zero) y += z;
      const uint32_t code = kStochastic ? coder.stochastic(y, random_bits) : coder.nearest(y);
      return to.sign_extended ? (code | (0u - (code >> (to.bits - 1))) << to.bits) & 0xffu : code;
    };
    float s = 1.0f, z = 0.0f;
    scale_at(c, &s, &z);
    if (kCoderTable<Coder> == 0 && uniform) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) codes.put(i, code_of(v[i], s, z, bits.half(i)));
    } else {
#pragma unroll 1
      for (int i = 0; i < kVector; ++i) {
        if (!uniform && c + i < to.cols) scale_at(c + i, &s, &z);
        codes.turn(code_of(v[0], s, z, bits.half(0)));
        turn(v);
        bits.turn();
      }
    }
    const int n = min(kVector, to.cols - c);  // zeros past the end
    codes.low &= n >= 4 ? ~0u : (1u << (8 * n)) - 1u;
    codes.high &= n >= 8 ? ~0u : n <= 4 ? 0u : (1u << (8 * (n - 4))) - 1u;
  }
  to.store(r, c, valid, codes);
}

__global__ void __maxnreg__(64) extents(const Input in, const ExtentJob job) {
  extern __shared__ float4 shared[];
  find_extents(job, [&](int32_t r, int32_t c, bool valid, float (&v)[kVector]) {
    in.load(r, c, valid, v, reinterpret_cast<float*>(shared));
  });
}

// Looks at the values of a codebook: finite, ascending.
__global__ void check_codebook(const float* values, const int count, int32_t* findings) {
  const auto c = static_cast<int>(threadIdx.x);
  if (c >= count) return;
  if (!is_finite(values[c]) || (c > 0 && values[c] < values[c - 1])) report(findings, kBadTable);
}

// Registers of with_values; with fewer it spills.
template <class Coder, bool kStochastic>
constexpr int kWithValuesRegisters = kRegisters + (kCoderTable<Coder> > 0                             ? 32
                                                   : kStochastic && std::is_same_v<Coder, FloatCoder> ? 8
                                                                                                      : 0);

// Scales that are there.
template <class Coder, bool kStochastic>
__global__ void __maxnreg__((kWithValuesRegisters<Coder, kStochastic>))
    with_values(const Input in, const Output<Coder> out, const DeviceValues scale, const DeviceValues zero,
                const Tiling tiling, int32_t* findings) {
  extern __shared__ float4 shared[];
  __shared__ float table[kCoderTable<Coder> + 1];
  Coder coder = out.coder;
  fill(coder, table);
  const Place p(tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < in.rows;
  float v[kVector];
  in.load(p.r, p.c, valid, v, reinterpret_cast<float*>(shared));
  Extent e;
  e.add(v, false);
  if (!e.finite()) report(findings, kNonFinite);
  const Philox random = kStochastic ? read_seed(out.random, out.seed) : Philox();
  const bool uniform = (!scale || scale.is_uniform()) && (!zero || zero.is_uniform());
  emit<kStochastic>(out, coder, random, p.r, p.c, valid, v, uniform, [&](int32_t c, float* s, float* z) {
    if (scale) *s = scale.at(p.r, c);
    if (zero) *z = zero.at(p.r, c);
  });
}

// A block of scales is `lanes` neighbouring lanes.
template <class Coder, bool kStochastic>
__global__ void __maxnreg__(kRegisters)
    by_lanes(const Input in, const Output<Coder> out, const OwnScales scales, const Tiling tiling, const int lanes) {
  extern __shared__ float4 shared[];
  __shared__ float table[kCoderTable<Coder> + 1];
  Coder coder = out.coder;
  fill(coder, table);
  const Philox random = kStochastic ? read_seed(out.random, out.seed) : Philox();
  const Place p(tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < in.rows;
  float v[kVector];
  in.load(p.r, p.c, valid, v, reinterpret_cast<float*>(shared));
  Extent e;
  e.add(v, scales.maker.asymmetric);
  e.join_lanes(lanes, scales.maker.asymmetric);
  const bool writer = valid && p.c < in.cols && threadIdx.x % static_cast<unsigned>(lanes) == 0;
  float s = 1.0f, z = 0.0f;
  scales.make(e, int64_t{p.r} * scales.in_row + scales.block_of(p.c), writer, &s, &z);
  emit<kStochastic>(out, coder, random, p.r, p.c, valid, v, true, [&](int32_t, float* to_s, float* to_z) {
    *to_s = s;
    *to_z = z;
  });
}

// A block of scales is a block of threads. Its values wait in shared memory, each where the thread that put it there
// takes it from, so no barrier is needed for them.
template <class Coder, bool kStochastic>
__global__ void __maxnreg__(kRegisters)
    by_threads(const Input in, const Output<Coder> out, const OwnScales scales, const Divisor row_of, const int kept) {
  extern __shared__ float4 shared[];
  __shared__ float table[kCoderTable<Coder> + 1];
  __shared__ uint32_t most[kMaxThreads / 32], least_[kMaxThreads / 32];
  Coder coder = out.coder;
  fill(coder, table);
  const Philox random = kStochastic ? read_seed(out.random, out.seed) : Philox();
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  float4* const values = shared;
  auto* const exchange = reinterpret_cast<float*>(shared + 2 * kept * threads);
  const int32_t block = static_cast<int32_t>(blockIdx.x), r = row_of(block), j = block - r * scales.in_row;
  const int32_t wide = scales.block_of.size == 0 ? in.cols : scales.block_of.size;
  const int32_t c0 = j * wide, end = min(in.cols - c0, wide) + c0;
  const int turns = (end - c0 + kVector * threads - 1) / (kVector * threads);
  Extent e;
#pragma unroll 1
  for (int k = 0; k < turns; ++k) {
    float v[kVector];
    const int32_t c = c0 + (k * threads + thread) * kVector;
    in.load(r, c, c < end, v, exchange);
    e.add(v, scales.maker.asymmetric);
    if (k < kept) {
      values[2 * k * threads + thread] = make_float4(v[0], v[1], v[2], v[3]);
      values[(2 * k + 1) * threads + thread] = make_float4(v[4], v[5], v[6], v[7]);
    }
  }
  e.most = ptx::redux_max_u32(e.most);
  e.least = ptx::redux_max_u32(e.least);
  if (thread % 32 == 0) most[thread / 32] = e.most, least_[thread / 32] = e.least;
  __syncthreads();
  for (int w = 0; w < threads / 32; ++w) e.join({most[w], least_[w]});
  float s = 1.0f, z = 0.0f;
  scales.make(e, block, thread == 0, &s, &z);
#pragma unroll 1
  for (int k = 0; k < turns; ++k) {
    float v[kVector];
    const int32_t c = c0 + (k * threads + thread) * kVector;
    if (k < kept) {
      const float4 a = values[2 * k * threads + thread], b = values[(2 * k + 1) * threads + thread];
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
      in.load(r, c, c < end, v, exchange);
    }
    // lanes past the end of the row still hold planes of its last word
    emit<kStochastic>(out, coder, random, r, c, (c & ~31) < end, v, true, [&](int32_t, float* to_s, float* to_z) {
      *to_s = s;
      *to_z = z;
    });
  }
}

// Which of the three kernels a rule goes to.
enum class Path : uint8_t { kValues, kLanes, kThreads };

struct Plan {
  Path path = Path::kValues;
  int lanes = 1;
};

Plan plan_of(const QuantizeArgs& a) {
  const Spec& spec = a.scaling.spec;
  const bool bytes = spec.scale == nullptr || canonical(*spec.scale) == Canonical::kBytes;
  if (!a.scaling.scale || spec.block.rows != 1 || spec.scale_has_scale || !bytes) return {};
  const int64_t wide = spec.block.cols, warp = 32 * kVector;
  if (wide == 0 || wide >= a.cols) {
    if (a.cols > warp) return {Path::kThreads};
    int lanes = 4;
    while (lanes * kVector < a.cols) lanes *= 2;
    return {Path::kLanes, lanes};
  }
  if (wide >= kVector && wide <= warp && (wide & (wide - 1)) == 0)
    return {Path::kLanes, static_cast<int>(wide / kVector)};
  // the fused transform stays within a block of scales
  if (wide > warp && wide % 32 == 0 && (a.hadamard == 0 || wide % a.hadamard == 0)) return {Path::kThreads};
  return {};
}

template <class Coder, bool kStochastic>
Status run(const Coder& coder, const QuantizeArgs& a, const Call& call) {
  const char* op = a.scaling.op;
  const Input in(a);
  const Output<Coder> out(coder, a, call);
  const Plan plan = plan_of(a);
  const int vectors = in.hadamard.vectors();
  if (plan.path == Path::kThreads) {
    const OwnScales scales(a.scaling, call);
    const int64_t wide = std::min(a.cols, scales.block_of.size == 0 ? a.cols : int64_t{scales.block_of.size});
    const int64_t all = ceil_divide(wide, kVector), each = all >= 1024 ? 4 : all >= 256 ? 2 : 1;
    int threads = static_cast<int>(std::min<int64_t>(kMaxThreads, round_up(ceil_divide(all, each), 32)));
    if (vectors > 32) {
      for (threads = vectors; threads < kMaxThreads && threads * each < all; threads *= 2) {
      }
    }
    const int64_t turns = ceil_divide(wide, threads * kVector);
    const int kept = static_cast<int>(std::min<int64_t>(turns, kKept / (threads * kVector)));
    const int64_t shared = kept * threads * kVector * 4 + in.hadamard.shared_bytes(threads);
    return launch(op, by_threads<Coder, kStochastic>, dim3(static_cast<unsigned>(a.rows * scales.in_row)),
                  dim3(static_cast<unsigned>(threads)), shared, call.stream, in, out, scales, Divisor(scales.in_row),
                  kept);
  }
  if (plan.path == Path::kLanes) {
    const OwnScales scales(a.scaling, call);
    const Tiling tiling = Tiling::of(a.rows, a.cols, std::max(vectors, plan.lanes));
    return launch(op, by_lanes<Coder, kStochastic>, dim3(tiling.grid()), dim3(static_cast<unsigned>(tiling.threads)),
                  in.hadamard.shared_bytes(tiling.threads), call.stream, in, out, scales, tiling, plan.lanes);
  }
  BlockValues scale = a.scale, zero = a.zero, second;
  if (a.scaling.scale) {
    LOWBIT_RETURN_IF_ERROR(clear_extents(op, a.scaling, call));
    const ExtentJob job(a.rows, a.cols, extent_store(a.scaling, call), vectors, call.findings);
    LOWBIT_RETURN_IF_ERROR(launch(op, extents, dim3(job.grid()), dim3(static_cast<unsigned>(job.tiling.threads)),
                                  in.hadamard.shared_bytes(job.tiling.threads), call.stream, in, job));
    LOWBIT_RETURN_IF_ERROR(make_scales(op, a.scaling, call));
    scale = scale_view(a.scaling, &second);
    zero = zero_view(a.scaling);
  }
  const Tiling tiling = Tiling::of(a.rows, a.cols, vectors);
  return launch(op, with_values<Coder, kStochastic>, dim3(tiling.grid()), dim3(static_cast<unsigned>(tiling.threads)),
                in.hadamard.shared_bytes(tiling.threads), call.stream, in, out, DeviceValues(scale), DeviceValues(zero),
                tiling, call.findings);
}

template <class Coder>
Status run(const Coder& coder, const QuantizeArgs& a, const Call& call) {
  return a.stochastic ? run<Coder, true>(coder, a, call) : run<Coder, false>(coder, a, call);
}

}  // namespace

int64_t quantize_workspace(const QuantizeArgs& a) {
  const bool two_passes = a.scaling.scale && !a.scaling.spec.element->is_complex() && plan_of(a).path == Path::kValues;
  return two_passes ? extents_workspace(a.scaling) : 0;
}

Status quantize(const QuantizeArgs& a, const Call& call) {
  const char* op = a.scaling.op;
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(op, call, &device));
  LOWBIT_RETURN_IF_ERROR(check_workspace(op, call, quantize_workspace(a)));
  LOWBIT_RETURN_IF_ERROR(check_size(op, "x", a.rows, a.cols));
  if (a.rows == 0 || a.cols == 0) return Status();
  const ElementFormat& f = *a.scaling.spec.element;
  if (f.is_complex()) return quantize_complex(a, call);
  if (f.is_int()) return run(IntCoder(f), a, call);
  if (f.is_float() && f.specials != kPower) return run(FloatCoder(f), a, call);
  if (f.kind == Kind::kCodebook && call.findings != nullptr) {
    LOWBIT_RETURN_IF_ERROR(
        launch(op, check_codebook, dim3(1), dim3(256), 0, call.stream, a.scaling.codebook, f.codes(), call.findings));
  }
  return run(LookupCoder(f, a.scaling.codebook), a, call);
}

}  // namespace lowbit::cuda
