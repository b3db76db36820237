#include <algorithm>

#include "cuda/input_grad.h"
#include "cuda/ptx/memory.cuh"
#include "cuda/tile/expert_rows.cuh"
#include "cuda/tile/fragments.cuh"
#include "cuda/tile/gemm_engine.cuh"
#include "cuda/tile/sectors.cuh"
#include "cuda/tile/swizzle.cuh"
#include "cuda/tile/weight_runs.cuh"

namespace lowbit::cuda {
namespace {

// A block of eight warps computes 128 or 64 rows by 256 columns of dX, a warp half the rows by 64 columns, in steps of
// 16 or 32 rows of W: more at a time leaves no registers. 256 columns are a sector of a row of a bit plane.
constexpr int kThreads = 256, kCols = 256;
constexpr int step_of(int rows) { return 2048 / rows; }
// Of 16 bytes, in one term.
constexpr int dy_chunks_of(int rows) { return rows * step_of(rows) / 8; }
constexpr int weight_chunks_of(int rows) { return step_of(rows) * kCols / 8; }

// The value of an integer code, (code * 2^shift ^ flip) - minus, by way of the float whose mantissa it is. The table of
// other formats stands in shared memory, whose banks 256 values cannot be spread over.
struct IntegerValue {
  bool is_integer = false;
  int shift = 0;
  uint32_t flip = 0;
  float base = 0.0f;  // 2^23 + minus

  IntegerValue() = default;
  explicit IntegerValue(const ElementFormat& f) : is_integer(f.is_int() && !f.is_complex()) {
    if (!is_integer) return;
    const uint32_t top = 1u << (f.bits - 1);
    shift = f.rule == kBipolar ? 1 : 0;
    flip = f.rule == kSigned || f.rule == kTernary ? top : 0;
    base = 8388608.0f + static_cast<float>(f.rule == kBipolar ? 2 * top - 1 : flip);
  }
  __device__ __forceinline__ float operator()(uint32_t code) const {
    return from_bits((code << shift ^ flip) | 0x4b000000u) - base;
  }
};

struct InputGradParams {
  Operand w;
  RunKind run;
  bool ragged;  // runs of 16 columns may meet several scales, zero points, sources or parts
  IntegerValue integer;
  Matrix dy, out;
  bool dy_wide, out_wide;
  int32_t m, n, k;
  int32_t dy_terms, w_terms, depth;
  Outliers outliers;
  // grouped
  const int32_t* offs;
  int32_t experts;
  int64_t w_step, w_scale_step, w_second_step, w_zero_step;
};

struct Shared {
  float table[2][256];
  uint4 chunks[1];  // terms of dY, then terms of w

  static int64_t bytes(const InputGradParams& p, int rows) {
    return static_cast<int64_t>(sizeof(float)) * 512 +
           int64_t{16} * (p.dy_terms * dy_chunks_of(rows) + p.w_terms * weight_chunks_of(rows));
  }
};

// The D leading terms of eight floats, eight 16-bit ones a chunk.
__device__ __forceinline__ uint4 take_eight(float (&v)[8]) {
  uint32_t t[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = BFloat16Engine::take(v[2 * i]), high = BFloat16Engine::take(v[2 * i + 1]);
    t[i] = low | high << 16;
  }
  return make_uint4(t[0], t[1], t[2], t[3]);
}

// One weight; outliers not among them. Not a member: the sums would follow `this` into local memory.
__device__ __noinline__ float weight_at(const InputGradParams& p, const Shared& shared, int32_t expert, int32_t r,
                                        int32_t c) {
  const Codes16 x = p.w.read(r, c, 1, expert * p.w_step);
  const uint32_t code = x.word[0] & 0xffu;
  const float value =
      p.w.is_complex ? static_cast<float>(complex_part(code, p.w.part(r, c))) : shared.table[x.source][code];
  return p.w.scale_at(r, c, expert * p.w_scale_step, expert * p.w_second_step) *
         (value - p.w.zero_at(r, c, expert * p.w_zero_step));
}

template <int kRows>
class InputGrad {
  static constexpr int kStep = step_of(kRows), kDyChunks = dy_chunks_of(kRows), kWeightChunks = weight_chunks_of(kRows);
  static constexpr int kFragments = kRows / 32;               // of 16 rows, a warp's
  static constexpr int kDyLanes = kStep / 8;                  // that have a row of dY, eight columns each
  static constexpr int kRuns = kWeightChunks / 2 / kThreads;  // of 16 weights, a thread's
  static_assert(kDyChunks == kThreads, "one a thread");

 public:
  __device__ __forceinline__ InputGrad(const InputGradParams& params, Shared* s) : p(params), shared(*s) {}

  __device__ __forceinline__ void run() {
    const int32_t across = (p.k + kCols - 1) / kCols, down = static_cast<int32_t>(blockIdx.x) / across;
    k0 = (static_cast<int32_t>(blockIdx.x) - down * across) * kCols;
    if (!place(down)) return;
    fill_tables();
    load(0);
#pragma unroll 1
    for (int32_t n0 = 0; n0 < p.n; n0 += kStep) {
      __syncthreads();  // the tables, or the step before has been read
      store(n0);
      __syncthreads();
      if (p.outliers.offsets != nullptr) {
        add_outliers(n0);
        __syncthreads();
      }
      if (n0 + kStep < p.n) load(n0 + kStep);
      multiply();
    }
    write();
  }

 private:
  const InputGradParams& p;
  Shared& shared;
  int32_t k0 = 0, m0 = 0, row_end = 0, expert = 0;
  float sum[kFragments][8][4] = {};
  // of the next step
  uint32_t dy[8];
  uint32_t codes[kRuns][4];
  float scale[kRuns], zero[kRuns];

  // Which rows, of which expert. False: none.
  __device__ __forceinline__ bool place(int32_t tile) {
    row_end = p.m;
    m0 = tile * kRows;
    if (p.offs == nullptr) return true;
    ExpertRows rows;
    if (!find_expert_rows(p.offs, p.experts, p.m, kRows, tile, &rows)) return false;
    expert = rows.expert, m0 = rows.begin, row_end = rows.end;
    return true;
  }

  __device__ __forceinline__ uint4* dy_chunks(int term) const { return shared.chunks + term * kDyChunks; }
  __device__ __forceinline__ uint4* weight_chunks(int term) const {
    return shared.chunks + p.dy_terms * kDyChunks + term * kWeightChunks;
  }

  __device__ __forceinline__ void fill_tables() {
    if (p.w.is_complex) return;
    const int i = static_cast<int>(threadIdx.x);
    const auto code = [&](const CodeSource& s) { return static_cast<uint32_t>(i) & ((1u << s.format.row.bits) - 1u); };
    shared.table[0][i] = value_of(p.w.low, code(p.w.low));
    if (p.w.high_groups != nullptr) shared.table[1][i] = value_of(p.w.high, code(p.w.high));
  }

  // ---- dY: a thread has eight columns of a row

  __device__ __forceinline__ void load_dy(int32_t m, int32_t n, uint32_t (&v)[8]) const {
    const bool narrow = p.dy.dtype != DType::kF32;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = 0;
    const int64_t at = m * p.dy.row_stride + n * p.dy.col_stride;
    const bool whole = m < row_end && n / 16 * 16 + 16 <= p.n;  // the lane's eight columns and its neighbour's
    if (p.dy_wide && !narrow) load_pair(static_cast<const uint8_t*>(p.dy.data) + at * 4, whole, v);
    if (m >= row_end || n >= p.n || (p.dy_wide && !narrow && whole)) return;
    if (p.dy_wide && narrow && n + 8 <= p.n) {
      const uint4 q = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p.dy.data) + at);
      v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else if (narrow) {
      const auto* from = static_cast<const uint16_t*>(p.dy.data) + at;
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const uint32_t last = n + i < p.n ? from[i * p.dy.col_stride] : 0u;
#pragma unroll
        for (int j = 0; j < 4; ++j) v[j] = __funnelshift_r(v[j], j < 3 ? v[j + 1] : last, 16);
      }
    } else {
      const auto* from = static_cast<const uint32_t*>(p.dy.data) + at;
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 7; ++j) v[j] = v[j + 1];
        v[7] = n + i < p.n ? from[i * p.dy.col_stride] : 0u;
      }
    }
  }
  __device__ __forceinline__ void load(int32_t n0) {
    const int thread = static_cast<int>(threadIdx.x);
    load_dy(m0 + thread / kDyLanes, n0 + thread % kDyLanes * 8, dy);
    if (p.ragged) return;
    // w: 16 lanes have a row, 16 columns each
    const auto* data = static_cast<const uint8_t*>(p.w.low.codes.data) + expert * p.w_step;
    const int32_t c = k0 + thread % 16 * 16;
#pragma unroll
    for (int h = 0; h < kRuns; ++h) {
      const int32_t r = n0 + thread / 16 + kThreads / 16 * h;
      if (r >= p.n || c >= p.k) continue;
      if (p.run == RunKind::kAny) {
        const Codes16 x = p.w.read(r, c, min(16, p.k - c), expert * p.w_step);
#pragma unroll
        for (int i = 0; i < 4; ++i) codes[h][i] = x.word[i];
      } else {
        read_run(p.w.low, p.run, data, r, c, codes[h]);
      }
      scale[h] = p.w.scale_at(r, c, expert * p.w_scale_step, expert * p.w_second_step);
      zero[h] = p.w.zero_at(r, c, expert * p.w_zero_step);
    }
  }

  __device__ __forceinline__ void store(int32_t n0) {
    const int thread = static_cast<int>(threadIdx.x);
    store_dy();
#pragma unroll
    for (int h = 0; h < kRuns; ++h) {
      const int row = thread / 16 + kThreads / 16 * h, run = thread % 16;
      if (p.ragged) {
        store_ragged(n0 + row, k0 + 16 * run, row, run);
      } else {
        store_run(n0 + row, k0 + 16 * run, row, run, codes[h], scale[h], zero[h]);
      }
    }
  }
  __device__ __forceinline__ void store_dy() {
    const int thread = static_cast<int>(threadIdx.x), at = swizzle<kDyLanes>(thread / kDyLanes, thread % kDyLanes);
    if (p.dy.dtype == DType::kBF16) {
      dy_chunks(0)[at] = make_uint4(dy[0], dy[1], dy[2], dy[3]);
      return;
    }
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[i] = p.dy.dtype == DType::kF32 ? from_bits(dy[i]) : f16_value(dy[i / 2] >> (16 * (i % 2)) & 0xffffu);
    }
#pragma unroll 1
    for (int t = 0; t < p.dy_terms; ++t) dy_chunks(t)[at] = take_eight(v);
  }
  __device__ __forceinline__ void store_run(int32_t r, int32_t c, int row, int run, const uint32_t (&from)[4], float s,
                                            float z) {
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      // of eight lanes with neighbouring runs of a row, four write even chunks and four odd ones: to different banks
      const bool second = (i ^ run / 4 % 2) != 0;
      float v[8];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const uint32_t word = second ? from[2 + j / 4] : from[j / 4];
        const uint32_t code = word >> (8 * (j % 4)) & 0xffu;
        const float value = p.integer.is_integer ? p.integer(code) : shared.table[0][code];
        const bool there = r < p.n && c + (second ? 8 : 0) + j < p.k;
        v[j] = there ? s * (value - z) : 0.0f;
      }
      const int at = swizzle<kCols / 8>(row, 2 * run + (second ? 1 : 0));
#pragma unroll 1
      for (int t = 0; t < p.w_terms; ++t) weight_chunks(t)[at] = take_eight(v);
    }
  }

  __device__ __forceinline__ void put(int row, int col, float v) {
#pragma unroll 1
    for (int t = 0; t < p.w_terms; ++t) {
      auto* chunk = reinterpret_cast<uint16_t*>(weight_chunks(t) + swizzle<kCols / 8>(row, col / 8));
      chunk[col % 8] = static_cast<uint16_t>(BFloat16Engine::take(v));
    }
  }
  __device__ __forceinline__ void store_ragged(int32_t r, int32_t c, int row, int run) {
#pragma unroll 1
    for (int i = 0; i < 16; ++i)
      put(row, 16 * run + i, r < p.n && c + i < p.k ? weight_at(p, shared, expert, r, c + i) : 0.0f);
  }

  // A warp has its share of the rows; the first entry of a column adds all of that column, in their order.
  __device__ __forceinline__ void add_outliers(int32_t n0) {
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll 1
    for (int row = kStep / 8 * warp; row < kStep / 8 * (warp + 1) && n0 + row < p.n; ++row) {
      const int32_t begin = p.outliers.offsets[n0 + row], end = p.outliers.offsets[n0 + row + 1];
      for (int32_t e = begin + lane; e < end; e += 32) {
        const int32_t c = p.outliers.cols[e];
        if (c < k0 || c >= k0 + kCols) continue;
        bool first = true;
        for (int32_t j = begin; j < e && first; ++j) first = p.outliers.cols[j] != c;
        if (!first) continue;
        float v = weight_at(p, shared, expert, n0 + row, c);
        for (int32_t j = e; j < end; ++j) {
          if (p.outliers.cols[j] == c) v += load_value(p.outliers.values, p.outliers.dtype, j);
        }
        put(row, c - k0, v);
      }
    }
  }

  __device__ __forceinline__ void multiply() {
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
    const int row = warp / 4 * (kRows / 2), chunk = warp % 4 * 8;
#pragma unroll 1
    for (int s = 0; s < kStep / 16; ++s) {
#pragma unroll 1
      for (int tw = 0; tw < p.w_terms; ++tw) {
        uint32_t b[8][2];
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          uint32_t r[4];
          const uint4* from = weight_chunks(tw) + swizzle<kCols / 8>(16 * s + lane % 16, chunk + 2 * q + lane / 16);
          ptx::ldmatrix_x4_trans(r, ptx::shared_address(from));
          b[2 * q][0] = r[0], b[2 * q][1] = r[1], b[2 * q + 1][0] = r[2], b[2 * q + 1][1] = r[3];
        }
#pragma unroll 1
        for (int tx = 0; tx < p.dy_terms && tx + tw < p.depth; ++tx) {
#pragma unroll
          for (int i = 0; i < kFragments; ++i) {
            uint32_t a[4];
            const Chunk at = a_chunk(lane);
            ptx::ldmatrix_x4(
                a, ptx::shared_address(dy_chunks(tx) + swizzle<kDyLanes>(row + 16 * i + at.row, 2 * s + at.chunk)));
#pragma unroll
            for (int q = 0; q < 8; ++q) BFloat16Engine::multiply(sum[i][q], a, b[q]);
          }
        }
      }
    }
  }

  // Two neighbouring values of the output.
  __device__ __forceinline__ void write_two(int32_t m, int32_t k, float low, float high) const {
    if (m >= row_end || k >= p.k) return;
    const int64_t at = m * p.out.row_stride + k * p.out.col_stride;
    if (p.out_wide && p.out.dtype == DType::kF32 && k + 2 <= p.k) {
      *reinterpret_cast<float2*>(static_cast<float*>(p.out.data) + at) = make_float2(low, high);
      return;
    }
    store_value(p.out.data, p.out.dtype, at, low);
    if (k + 1 < p.k) store_value(p.out.data, p.out.dtype, at + p.out.col_stride, high);
  }
  __device__ __forceinline__ uint32_t pair(float low, float high) const {
    const bool bf16 = p.out.dtype == DType::kBF16;
    return (bf16 ? bf16_of(low) : f16_of(low)) | static_cast<uint32_t>(bf16 ? bf16_of(high) : f16_of(high)) << 16;
  }

  __device__ __forceinline__ void write() const {
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32), t = lane % 4;
    const bool narrow = p.out_wide && p.out.dtype != DType::kF32;
#pragma unroll
    for (int i = 0; i < kFragments; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int32_t m = m0 + warp / 4 * (kRows / 2) + 16 * i + lane / 4 + 8 * h;
#pragma unroll
        for (int q = 0; q < 8; q += 2) {
          const int32_t k = k0 + warp % 4 * 64 + 8 * q;
          const float (&a)[4] = sum[i][q];
          const float (&b)[4] = sum[i][q + 1];
          if (!narrow || k + 16 > p.k) {
            write_two(m, k + 2 * t, a[2 * h], a[2 * h + 1]);
            write_two(m, k + 8 + 2 * t, b[2 * h], b[2 * h + 1]);
            continue;
          }
          // 16 columns of four lanes, two words each: lane t takes columns 4 t .. 4 t + 3
          const uint32_t left = pair(a[2 * h], a[2 * h + 1]), right = pair(b[2 * h], b[2 * h + 1]);
          const uint32_t own = t < 2 ? left : right;
          const uint32_t far = __shfl_xor_sync(0xffffffffu, t < 2 ? right : left, 2);
          const uint32_t low = t < 2 ? own : far, high = t < 2 ? far : own;  // words t % 2 and t % 2 + 2 of a fragment
          const uint32_t other = __shfl_xor_sync(0xffffffffu, t % 2 == 0 ? high : low, 1);
          if (m >= row_end) continue;
          const int64_t at = m * p.out.row_stride + k + 4 * t;
          *reinterpret_cast<uint2*>(static_cast<uint16_t*>(p.out.data) + at) =
              t % 2 == 0 ? make_uint2(low, other) : make_uint2(other, high);
        }
      }
    }
  }
};

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1) input_grad(const __grid_constant__ InputGradParams p) {
  extern __shared__ uint4 memory[];
  InputGrad<kRows>(p, reinterpret_cast<Shared*>(memory)).run();
}

bool splits_runs(const BlockValues& v) { return v && v.block.cols % 16 != 0; }

// Bits of a weight: those of code - zero times those of a bfloat16 scale fit two terms.
bool fits_two_terms(const QMatrix& w) {
  const ElementFormat& f = *w.codes.format;
  const bool short_scale =
      !w.scale || (w.scale.codes.format == nullptr && w.scale.second == nullptr && w.scale.dtype == DType::kBF16);
  return f.is_int() && f.bits <= 7 && !w.zero && w.high == nullptr && w.outliers.offsets == nullptr && short_scale;
}

bool is_aligned(const Matrix& m, int64_t bytes) {
  return m.col_stride == 1 && reinterpret_cast<uintptr_t>(m.data) % static_cast<uintptr_t>(bytes) == 0 &&
         m.row_stride * size_of(m.dtype) % bytes == 0;
}

}  // namespace

Status run_input_grad(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(op, call, &device));
  const int64_t width = args.w.codes.format->is_complex() ? 2 : 1;
  const int64_t rows = args.w.codes.rows;
  LOWBIT_RETURN_IF_ERROR(check_size(op, "dy", args.m, rows * width));
  LOWBIT_RETURN_IF_ERROR(check_size(op, "w", rows * width, args.w.cols * width));
  InputGradParams p{};
  p.w = Operand(args.w, rows);
  p.run = run_kind(args.w.codes);
  p.integer = IntegerValue(*args.w.codes.format);
  p.ragged = args.w.high != nullptr || width == 2 || splits_runs(args.w.scale) || splits_runs(args.w.zero);
  p.dy = args.x;
  p.out = args.out;
  p.dy_wide = is_aligned(args.x, 16);
  p.out_wide = is_aligned(args.out, 8);
  p.m = static_cast<int32_t>(args.m), p.n = p.w.rows, p.k = p.w.cols;
  p.depth = args.out.dtype == DType::kBF16 ? 2 : 3;
  p.dy_terms = std::min(args.x.dtype == DType::kBF16 ? 1 : args.x.dtype == DType::kF16 ? 2 : 3, p.depth);
  p.w_terms = fits_two_terms(args.w) ? 2 : p.depth;
  p.outliers = args.w.outliers;
  if (grouped != nullptr) {
    p.offs = grouped->offs, p.experts = grouped->experts;
    p.w_step = grouped->w_step, p.w_scale_step = grouped->w_scale_step;
    p.w_second_step = grouped->w_second_step, p.w_zero_step = grouped->w_zero_step;
    if (p.run != RunKind::kPlanes && p.w_step % 16 != 0) p.run = RunKind::kAny;
  }
  if (args.m == 0 || p.k == 0) return Status();
  const int64_t experts = grouped != nullptr ? grouped->experts : 0;
  const auto tiles_of = [&](int64_t height) {
    return (ceil_divide(args.m, height) + experts) * ceil_divide(p.k, kCols);
  };
  // 128 rows read W half as often: where they are there, and their blocks enough for the device
  const bool tall = args.m > 64 * std::max<int64_t>(experts, 1) && tiles_of(128) >= device.multiprocessors;
  const int height = tall ? 128 : 64;
  const int64_t tiles = tiles_of(height), bytes = Shared::bytes(p, height);
  if (tiles >= int64_t{1} << 31) {
    return invalid(op, ": dx must have less than 2^31 tiles of ", height, " x ", kCols, ", got ", tiles, "; split dy");
  }
  if (bytes > device.shared_per_block) {
    return unsupported(op, ": the kernel must find ", bytes, " bytes of shared memory, got ", device.shared_per_block,
                       "; use a device with more");
  }
  return launch(op, tall ? input_grad<128> : input_grad<64>, dim3(static_cast<unsigned>(tiles)), dim3(kThreads), bytes,
                call.stream, p);
}

Status dequant_gemm_input_grad(const GemmArgs& args, const Call& call) {
  return run_input_grad("dequant_gemm_input_grad", args, nullptr, call);
}

}  // namespace lowbit::cuda
