#include <algorithm>

#include "cuda/scaling.h"
#include "cuda/stochastic_round.h"
#include "cuda/tile/random.cuh"
#include "cuda/tile/scales.cuh"
#include "cuda/tile/vectors.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;

template <class Coder>
struct RoundJob {
  Matrix x, out;
  bool x_aligned = false, out_aligned = false, has_nan = false;
  int64_t first_index = 0, row_length = 0;  // of the logical tensor
  Tiling tiling;
  Coder coder;
  Philox random;
  const int64_t* seed = nullptr;
  int32_t* findings = nullptr;
};

template <class Coder>
__global__ void __launch_bounds__(kThreads) round(const RoundJob<Coder> job) {
  __shared__ float table[kCoderTable<Coder> + 1];
  Coder coder = job.coder;
  fill(coder, table);
  const Philox random = read_seed(job.random, job.seed);
  bool bad = false;
  const Place p(job.tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < job.x.rows;
  float v[kVector];
  load_vector(job.x, job.x_aligned, p.r, p.c, valid, v);
  if (valid && p.c < job.x.cols) {
    Random8 bits(random, static_cast<uint64_t>(job.first_index + p.r * job.row_length + p.c));
    if constexpr (kCoderTable<Coder> == 0) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        bad = bad || v[i] != v[i];
        v[i] = coder.value(coder.stochastic(v[i], bits.half(i)));
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < kVector; ++i) {
        bad = bad || v[0] != v[0];
        v[0] = coder.value(coder.stochastic(v[0], bits.half(0)));
        turn(v);
        bits.turn();
      }
    }
  }
  store_vector(job.out, job.out_aligned, p.r, p.c, valid, v);
  if (bad && !job.has_nan) report(job.findings, kNonFinite);
}

// Rows longer than kernels count are rounded piece by piece.
constexpr int64_t kPiece = int64_t{1} << 30;

template <class Coder>
Status round_with(const Coder& coder, const StochasticRoundArgs& a, const Call& call) {
  RoundJob<Coder> job;
  job.has_nan = a.format->is_float() && a.format->specials != kFinite;
  job.row_length = a.x.cols;
  job.coder = coder;
  job.random = a.random;
  job.seed = call.seed;
  job.findings = call.findings;
  for (int64_t r = 0; r < a.x.rows; r += kPiece) {
    for (int64_t c = 0; c < a.x.cols; c += kPiece) {
      for (Matrix* m : {&job.x, &job.out}) {
        *m = m == &job.x ? a.x : a.out;
        m->data = static_cast<char*>(m->data) + (r * m->row_stride + c * m->col_stride) * size_of(m->dtype);
        m->rows = std::min(kPiece, a.x.rows - r);
        m->cols = std::min(kPiece, a.x.cols - c);
      }
      job.x_aligned = is_vector_aligned(job.x);
      job.out_aligned = is_vector_aligned(job.out);
      job.first_index = r * a.x.cols + c;
      job.tiling = Tiling::of(job.x.rows, job.x.cols);
      LOWBIT_RETURN_IF_ERROR(
          launch("stochastic_round", round<Coder>, dim3(job.tiling.grid()), dim3(kThreads), 0, call.stream, job));
    }
  }
  return Status();
}

// w, dw and the scales: of W + dW, and of the update.
struct Updated {
  CodeLayout w;
  Matrix dw;
  bool dw_aligned = false;
  DeviceValues scale, zero;
  int32_t rows = 0;

  __device__ __forceinline__ bool uniform() const { return scale.is_uniform() && (!zero || zero.is_uniform()); }
};

// fl(fl(fl(value - zero) * scale) + dw)
__device__ __forceinline__ float sum_of(float value, bool has_zero, float zero, float scale, float dw) {
  if (has_zero) value -= zero;
  return value * scale + dw;
}

template <class Coder>
struct UpdateJob {
  Updated old;
  Tiling tiling;
  Coder coder;
  bool rescale = false;
  DeviceValues scale, zero;  // new ones, where rescaled
  Philox random;
  const int64_t* seed = nullptr;
  int64_t first_row = 0;
  int32_t* findings = nullptr;
};

template <class Coder>
__global__ void __launch_bounds__(kThreads, 3) updated_extents(const UpdateJob<Coder> job, const ExtentJob extents) {
  __shared__ float table[kCoderTable<Coder> + 1];
  Coder coder = job.coder;
  fill(coder, table);
  const Updated& old = job.old;
  find_extents(extents, [&](int32_t r, int32_t c, bool valid, float (&v)[kVector]) {
    Codes8 codes = old.w.load(r, c, valid);
    load_vector(old.dw, old.dw_aligned, r, c, valid, v);
    if (!valid || c >= old.w.cols) return;
    const bool uniform = old.uniform(), has_zero = static_cast<bool>(old.zero);
    float s = 1.0f, z = 0.0f;
#pragma unroll 1
    for (int i = 0; i < kVector; ++i) {
      if (c + i < old.w.cols) {
        if (i == 0 || !uniform) {
          s = old.scale.at(r, c + i);
          if (has_zero) z = old.zero.at(r, c + i);
        }
        v[0] = sum_of(coder.value(codes.get(0)), has_zero, z, s, v[0]);
      }
      turn(v);
      codes.turn(0);
    }
  });
}

template <class Coder>
__global__ void __launch_bounds__(kThreads, 3) update(const UpdateJob<Coder> job) {
  __shared__ float table[kCoderTable<Coder> + 1];
  Coder coder = job.coder;
  fill(coder, table);
  const Philox random = read_seed(job.random, job.seed);
  const Updated& old = job.old;
  const int32_t cols = old.w.cols;
  bool bad = false;
  const Place p(job.tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < old.rows;
  Codes8 codes = old.w.load(p.r, p.c, valid);
  float d[kVector];
  load_vector(old.dw, old.dw_aligned, p.r, p.c, valid, d);
  if (valid && p.c < cols) {
    Random8 bits(random, static_cast<uint64_t>((job.first_row + p.r) * cols + p.c));
    const auto moved = [&](uint32_t code, float delta, float scale, uint32_t random_bits) {
      const float y = coder.value(code) + (scale == 0 ? 0.0f : delta / scale);
      bad = bad || !is_finite(delta);
      return is_finite(delta) ? coder.stochastic(y, random_bits) : code;
    };
    if (kCoderTable<Coder> == 0 && !job.rescale && old.scale.is_uniform() && p.c + kVector <= cols) {
      const float s = old.scale.at(p.r, p.c);
      Codes8 out;
#pragma unroll
      for (int i = 0; i < kVector; ++i) out.put(i, moved(codes.get(i), d[i], s, bits.half(i)));
      codes = out;
    } else {
      const bool has_zero = static_cast<bool>(old.zero);
#pragma unroll 1
      for (int i = 0; i < kVector; ++i) {
        const uint32_t code = codes.get(0);
        uint32_t next = 0;
        if (p.c + i < cols) {
          const float s = old.scale.at(p.r, p.c + i);
          if (!job.rescale) {
            next = moved(code, d[0], s, bits.half(0));
          } else {
            const float z = has_zero ? old.zero.at(p.r, p.c + i) : 0.0f;
            const float t = job.scale.at(p.r, p.c + i);
            float y = t == 0 ? 0.0f : sum_of(coder.value(code), has_zero, z, s, d[0]) / t;
            if (has_zero) y += job.zero.at(p.r, p.c + i);
            bad = bad || !is_finite(d[0]);
            next = is_finite(d[0]) ? coder.stochastic(y, bits.half(0)) : code;
          }
        }
        codes.turn(next);
        turn(d);
        bits.turn();
      }
    }
  }
  old.w.store(p.r, p.c, valid, codes);
  if (bad) report(job.findings, kNonFinite);
}

template <class Coder>
Status update_with(const Coder& coder, const WeightUpdateArgs& a, const Call& call) {
  UpdateJob<Coder> job;
  job.old.w = CodeLayout::of(a.w.codes);
  job.old.dw = a.dw;
  job.old.dw_aligned = is_vector_aligned(a.dw);
  job.old.scale = DeviceValues(a.w.scale);
  job.old.zero = DeviceValues(a.w.zero);
  job.old.rows = static_cast<int32_t>(a.w.codes.rows);
  job.tiling = Tiling::of(a.w.codes.rows, a.w.codes.cols);
  job.coder = coder;
  job.rescale = a.rescale;
  job.random = a.random;
  job.seed = call.seed;
  job.first_row = a.first_row;
  job.findings = call.findings;
  const char* op = a.scaling.op;
  if (a.rescale) {
    LOWBIT_RETURN_IF_ERROR(clear_extents(op, a.scaling, call));
    const ExtentJob extents(a.w.codes.rows, a.w.codes.cols, extent_store(a.scaling, call), 1, call.findings);
    LOWBIT_RETURN_IF_ERROR(
        launch(op, updated_extents<Coder>, dim3(extents.grid()), dim3(kThreads), 0, call.stream, job, extents));
    LOWBIT_RETURN_IF_ERROR(make_scales(op, a.scaling, call));
    BlockValues second;
    job.scale = DeviceValues(scale_view(a.scaling, &second));
    job.zero = DeviceValues(zero_view(a.scaling));
  }
  return launch(op, update<Coder>, dim3(job.tiling.grid()), dim3(kThreads), 0, call.stream, job);
}

// Calls f with the coder of a format.
template <class F>
Status with_coder(const ElementFormat& f, const F& call) {
  if (f.is_int()) return call(IntCoder(f));
  if (f.is_float() && f.specials != kPower) return call(FloatCoder(f));
  return call(LookupCoder(f, nullptr));
}

}  // namespace

Status stochastic_round(const StochasticRoundArgs& args, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of("stochastic_round", call, &device));
  if (args.x.rows == 0 || args.x.cols == 0) return Status();
  return with_coder(*args.format, [&](const auto& coder) { return round_with(coder, args, call); });
}

int64_t stochastic_round_update_workspace(const WeightUpdateArgs& args) {
  return args.rescale ? extents_workspace(args.scaling) : 0;
}

Status stochastic_round_update(const WeightUpdateArgs& args, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(args.scaling.op, call, &device));
  LOWBIT_RETURN_IF_ERROR(check_workspace(args.scaling.op, call, stochastic_round_update_workspace(args)));
  if (args.w.codes.rows == 0 || args.w.codes.cols == 0) return Status();
  LOWBIT_RETURN_IF_ERROR(check_size(args.scaling.op, "w", args.w.codes.rows, args.w.codes.cols));
  return with_coder(*args.w.codes.format, [&](const auto& coder) { return update_with(coder, args, call); });
}

}  // namespace lowbit::cuda
