#include <algorithm>

#include "common/parallel.h"
#include "cuda/hadamard.h"
#include "cuda/tile/hadamard.cuh"
#include "cuda/tile/tiling.cuh"
#include "cuda/tile/vectors.cuh"

namespace lowbit::cuda {
namespace {

constexpr const char* kOp = "hadamard";
constexpr int kMaxThreads = 1024;
constexpr int kWarpBlock = 32 * kVector;   // columns that a warp holds
constexpr int kOutputs = 12;               // rows of H_m that a thread sums: divides 12, 36, 60, 108
constexpr int64_t kMaxShared = 96 * 1024;  // every architecture has this much
constexpr int64_t kHalved = 32768, kHalf = kHalved / 2;

// Signs of H_m: 12 rows a half word, [column a][tile], bit i set where entry (tile + i tiles, a) is -1. The rows of
// neighbouring tiles are neighbours, so that lanes store what lies side by side.
struct Signs {
  static constexpr int kCapacity = 4096;
  int order = 1, tiles = 0;
  uint16_t bits[kCapacity] = {};

  int count() const { return order * tiles; }
};

// x, out, and what belongs to every engine.
struct Transform {
  Matrix x, out;
  bool x_aligned = false, out_aligned = false;
  int32_t size = 0;     // of a block
  int32_t in_row = 0;   // blocks
  int32_t blocks = 0;   // in all
  Divisor row_of;       // block -> row
  Matrix sign;          // one row of float32
  Divisor sign_period;  // columns after which the signs repeat, 0: never
  bool sign_aligned = false, sign_in = false, sign_out = false;
  float scale = 1.0f;

  // Where block `index` lies.
  struct Block {
    int32_t r, c;
  };
  __device__ __forceinline__ Block block(int32_t index) const {
    const int32_t r = row_of(index);
    return {r, (index - r * in_row) * size};
  }
  __device__ __forceinline__ float sign_of(int32_t column) const {
    return static_cast<const float*>(sign.data)[column - sign_period(column) * sign_period.size];
  }
  // The signs of columns column .. column + 7, a multiple of 8 in a block. All lanes call it.
  __device__ __forceinline__ void signs(int32_t column, bool valid, float (&s)[kVector]) const {
    if (sign_period.size == 0 || sign_period.size >= kVector) {
      load_vector(sign, sign_aligned, 0, column - sign_period(column) * sign_period.size, valid, s);
    } else {
#pragma unroll
      for (int i = 0; i < kVector; ++i) s[i] = sign_of(column + i);
    }
  }
  // Elements at, at + 1, ... at + 7 of a block; zeros past its end. All lanes call these.
  __device__ __forceinline__ void load(const Block& b, int32_t at, bool valid, float (&v)[kVector]) const {
    Matrix m = x;
    m.cols = b.c + size;
    load_vector(m, x_aligned, b.r, b.c + at, valid, v);
    if (!sign_in) return;
    float s[kVector];
    signs(b.c + at, valid, s);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] *= s[i];
  }
  __device__ __forceinline__ float finished(int32_t column, float v) const {
    v *= scale;
    return sign_out ? v * sign_of(column) : v;
  }
  __device__ __forceinline__ void store(const Block& b, int32_t at, bool valid, float (&v)[kVector]) const {
    Matrix m = out;
    m.cols = b.c + size;
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] *= scale;
    if (sign_out) {
      float s[kVector];
      signs(b.c + at, valid, s);
#pragma unroll
      for (int i = 0; i < kVector; ++i) v[i] *= s[i];
    }
    store_vector(m, out_aligned, b.r, b.c + at, valid, v);
  }
};

// Eight elements of a block, transformed within 2^k = `power` as far as a warp holds it. All lanes call it; zeros where
// it is not `valid`. kTensor: x is 16-bit, aligned, and power at least 32.
template <bool kTensor>
__device__ __forceinline__ void load_transformed(const Transform& t, const Transform::Block& b, int32_t at, bool valid,
                                                 int power, float (&v)[kVector]) {
  if constexpr (kTensor) {
    uint4 w = make_uint4(0, 0, 0, 0);
    if (valid) w = static_cast<const uint4*>(t.x.data)[(b.r * t.x.row_stride + b.c + at) / kVector];
    if (t.sign_in) {
      float s[kVector];
      t.signs(b.c + at, valid, s);
      const auto flip = [&](uint32_t pair, int i) {
        return pair ^ ((to_bits(s[i]) >> 16 & 0x8000u) | (to_bits(s[i + 1]) & 0x80000000u));
      };
      w = make_uint4(flip(w.x, 0), flip(w.y, 2), flip(w.z, 4), flip(w.w, 6));
    }
    butterflies_by_mma(w, t.x.dtype == DType::kBF16, v);
    butterflies(v, 4, kVector);
    for (int h = 32; h < power && h < kWarpBlock; h *= 2) butterfly_lanes(v, h / kVector);
  } else {
    t.load(b, at, valid, v);
    butterflies(v, 1, power);
    for (int h = kVector; h < power && h < kWarpBlock; h *= 2) butterfly_lanes(v, h / kVector);
  }
}

// Powers of two up to 256, by rows: the blocks of a row are one block to load() and store(), but for the signs.
template <bool kTensor>
__global__ void __launch_bounds__(256) in_lanes(const Transform t, const Tiling tiling, const int power) {
  const Place p(tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < t.x.rows && p.c < t.size;
  float v[kVector];
  load_transformed<kTensor>(t, {p.r, 0}, p.c, valid, power, v);
  t.store({p.r, 0}, p.c, valid, v);
}

// The place of word x in shared memory, 16 bytes staying together. With the first term eight threads that each move 16
// bytes at a stride of 32 meet eight different groups of banks, and so do 32 threads that move consecutive words. The
// second is for blocks of less than a warp (SharedPlan); what it adds to the group of 16 bytes is a multiple of 2 there
// or constant over two rows of banks, so that the first keeps its effect.
struct Swizzle {
  int shift = 0, mask = 0;

  __device__ __forceinline__ int32_t operator()(int32_t x) const { return x ^ (x >> 3 & 4) ^ (x >> shift & mask); }
};

__device__ __forceinline__ void put_vector(float* shared, const Swizzle& place, int32_t x, const float (&v)[kVector]) {
  *reinterpret_cast<float4*>(shared + place(x)) = make_float4(v[0], v[1], v[2], v[3]);
  *reinterpret_cast<float4*>(shared + place(x + 4)) = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void get_vector(const float* shared, const Swizzle& place, int32_t x, float (&v)[kVector]) {
  const float4 a = *reinterpret_cast<const float4*>(shared + place(x));
  const float4 b = *reinterpret_cast<const float4*>(shared + place(x + 4));
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

// Butterflies of bits low .. low + kBits - 1 of the index among `count` words, low >= 8.
template <int kBits>
__device__ __forceinline__ void butterflies_of_bits(float* shared, int32_t count, int low) {
  const Swizzle place;
  for (auto q = static_cast<int32_t>(threadIdx.x); q < count >> kBits; q += static_cast<int32_t>(blockDim.x)) {
    const int32_t base = (q >> low << (low + kBits)) | (q & ((1 << low) - 1));
    float v[1 << kBits];
#pragma unroll
    for (int j = 0; j < 1 << kBits; ++j) v[j] = shared[place(base + (j << low))];
    butterflies(v, 1, 1 << kBits);
#pragma unroll
    for (int j = 0; j < 1 << kBits; ++j) shared[place(base + (j << low))] = v[j];
  }
}
// Those of distances 256 .. 2^log2 / 2, each round between two barriers; one stands before the first.
__device__ __forceinline__ void butterflies_of_block(float* shared, int32_t count, int log2) {
  int low = 8;
  for (; low + 3 <= log2; low += 3) {
    __syncthreads();
    butterflies_of_bits<3>(shared, count, low);
  }
  if (low < log2) {
    __syncthreads();
    if (low + 2 == log2) {
      butterflies_of_bits<2>(shared, count, low);
    } else {
      butterflies_of_bits<1>(shared, count, low);
    }
  }
  __syncthreads();
}

// sum[i] += (+-1) v, twelve signs in `bits`.
__device__ __forceinline__ void add_signed(float (&sum)[kOutputs], float v, uint32_t bits) {
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) sum[i] += from_bits(to_bits(v) ^ (bits << (31 - i) & 0x80000000u));
}

// How `group` blocks of m * 2^log2 columns lie in shared memory, one behind the other in whole vectors of eight, and
// how lanes share the sums of H_m. An item is twelve rows of H_m and one of 2^log2 columns; a warp takes those of
// 2^log2_blocks blocks, 2^log2_tiles tiles of rows and all columns, where these are less than a warp. Of its lanes the
// blocks must meet different banks, in which each has 2^c groups of 16 bytes: those of its columns when it is read, of
// its tiles too when it gets their sums. A stride of 2^e * odd groups lets 2^(3 - e) blocks do so, and the others lie
// an odd number of rows of banks away, or 2^(e - 3) times that, which the swizzle makes other banks of. Sums of eight
// words and more begin at multiples of eight, so that what tiles there are is a multiple too (`tiles_of`). Where 2^log2
// columns are less than a sector the sums are `staged`: they go to memory of their own after the blocks, and leave in
// vectors.
struct SharedPlan {
  int log2 = 0, group = 1, stride = 0;
  int log2_blocks = 0, log2_tiles = 0;
  Swizzle swizzle;
  Divisor vectors;      // of a block
  Divisor block_slabs;  // groups of 2^log2_blocks blocks
  bool staged = false;

  __host__ __device__ int span() const { return log2 + log2_tiles + log2_blocks; }  // log2 of the items of a slab
  int64_t shared_bytes() const { return int64_t{staged ? 8 : 4} * group * stride; }
  // Tiles of rows, of which ceil(m / kOutputs) are needed.
  int tiles_of(int m) const {
    const int needed = static_cast<int>(ceil_divide(m, kOutputs));
    if (log2 >= 3 || log2 + log2_tiles < 3) return needed;
    const int even = static_cast<int>(round_up(needed, 8 >> log2));
    return m * even <= Signs::kCapacity ? even : needed;
  }

  // `blocks` of m * 2^log2 = n columns; `output_bytes` of an element.
  SharedPlan(int64_t n, int m, int log2_, int64_t blocks, int output_bytes)
      : log2(log2_), vectors(ceil_divide(n, kVector)) {
    constexpr int64_t kMostStaged = kMaxShared / 2;  // two blocks of threads an SM
    stride = vectors.size * kVector;
    group = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(blocks, 256 / vectors.size)));
    if (m > 1 && log2 < 5) {
      // two columns or one are half of 16 bytes or less: two or four tiles fill the rest
      log2_blocks = std::min(3, 5 - log2);
      const auto fits = [&](int log) { return (8 * int64_t{stride} << log) <= kMostStaged && 1 << log < 2 * blocks; };
      while (log2_blocks > 0 && !fits(log2_blocks)) --log2_blocks;
      log2_tiles = 5 - log2 - log2_blocks;
      const int unit = 1 << log2_blocks;
      group = static_cast<int>(std::min<int64_t>(blocks, std::max(unit, group / unit * unit)));
      swizzle = swizzle_of(__builtin_ctz(static_cast<unsigned>(stride / 4)), std::max(0, log2 + log2_tiles - 2));
    }
    block_slabs = Divisor(ceil_divide(group, 1 << log2_blocks));
    staged = m > 1 && (output_bytes << log2) < 32 && 8 * int64_t{group} * stride <= kMostStaged;
  }

 private:
  // Strides of 2^e groups of 16 bytes, times an odd number, that 2^c groups move over at once.
  static Swizzle swizzle_of(int e, int c) {
    const int bits = std::max(0, (1 << std::min(e, 3)) - (1 << c)), shift = std::max(e, 3) - c;
    return {shift, 4 * (shift == 3 ? bits & ~1 : bits)};  // at a shift of 3 the lowest is swizzled for vectors already
  }
};

template <bool kTensor>
__global__ void __launch_bounds__(kMaxThreads) in_shared(const Transform t, const SharedPlan plan, const Signs signs) {
  extern __shared__ float4 memory[];
  auto* const shared = reinterpret_cast<float*>(memory);
  const int32_t group = plan.group, stride = plan.stride, all = group * plan.vectors.size, power = 1 << plan.log2;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * group;
  const auto thread = static_cast<int32_t>(threadIdx.x), threads = static_cast<int32_t>(blockDim.x);
  const Swizzle place = kTensor ? Swizzle() : plan.swizzle;  // tensor cores take 32 columns and more
  float* const sums = shared + group * stride;
  auto* const bits = reinterpret_cast<uint16_t*>(plan.staged ? sums + group * stride : sums);
  for (int32_t i = thread; i < signs.order * signs.tiles; i += threads) bits[i] = signs.bits[i];
#pragma unroll 1
  for (int32_t from = 0; from < all; from += threads) {  // all lanes of a warp shuffle
    const int32_t u = from + thread, g = plan.vectors(u), at = (u - g * plan.vectors.size) * kVector;
    float v[kVector];
    const bool valid = u < all && first + g < t.blocks;
    load_transformed<kTensor>(t, valid ? t.block(first + g) : Transform::Block{0, 0}, at, valid, power, v);
    if (u < all) put_vector(shared, place, g * stride + at, v);
    // the words past the block are read with the last of its sums
    if (plan.staged && u < all && at + kVector > t.size) put_vector(sums, place, g * stride + at, v);
  }
  butterflies_of_block(shared, all * kVector, plan.log2);
  const auto store_vectors = [&](const float* from_shared) {
#pragma unroll 1
    for (int32_t from = 0; from < all; from += threads) {
      const int32_t u = from + thread, g = plan.vectors(u), at = (u - g * plan.vectors.size) * kVector;
      const bool valid = u < all && first + g < t.blocks;
      float v[kVector] = {};
      if (valid) get_vector(from_shared, place, g * stride + at, v);
      t.store(valid ? t.block(first + g) : Transform::Block{0, 0}, at, valid, v);
    }
  };
  if (signs.order == 1) {
    store_vectors(shared);
    return;
  }
  const int32_t tile_slabs = (signs.tiles + (1 << plan.log2_tiles) - 1) >> plan.log2_tiles;
  const int32_t items = plan.block_slabs.size * tile_slabs << plan.span(), left = min(group, t.blocks - first);
#pragma unroll 1
  for (int32_t item = thread; item < items; item += threads) {
    const int32_t slab = item >> plan.span(), tile_slab = plan.block_slabs(slab);
    const int32_t column = item & (power - 1);
    const int32_t tile = (tile_slab << plan.log2_tiles) + (item >> plan.log2 & ((1 << plan.log2_tiles) - 1));
    const int32_t g = ((slab - tile_slab * plan.block_slabs.size) << plan.log2_blocks) +
                      (item >> (plan.log2 + plan.log2_tiles) & ((1 << plan.log2_blocks) - 1));
    if (g >= left || tile >= signs.tiles) continue;
    float sum[kOutputs] = {};
#pragma unroll 4
    for (int32_t a = 0; a < signs.order; ++a) {
      add_signed(sum, shared[place(g * stride + (a << plan.log2) + column)], bits[a * signs.tiles + tile]);
    }
    const Transform::Block b = t.block(first + g);
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
      const int32_t at = ((i * signs.tiles + tile) << plan.log2) + column;
      if (at >= t.size) break;
      if (plan.staged) {
        sums[place(g * stride + at)] = sum[i];
      } else {
        store_value(t.out.data, t.out.dtype, b.r * t.out.row_stride + (b.c + at) * t.out.col_stride,
                    t.finished(b.c + at, sum[i]));
      }
    }
  }
  if (!plan.staged) return;
  __syncthreads();
  store_vectors(sums);
}

// 32,768: the two halves pass through the same shared memory and stay in registers.
template <bool kTensor>
__global__ void __launch_bounds__(kMaxThreads) in_halves(const Transform t) {
  extern __shared__ float4 memory[];
  auto* const shared = reinterpret_cast<float*>(memory);
  const Swizzle place;
  const Transform::Block b = t.block(static_cast<int32_t>(blockIdx.x));
  const auto thread = static_cast<int32_t>(threadIdx.x);
  constexpr int kTurns = kHalf / (kMaxThreads * kVector);
  float low[kTurns][kVector];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half > 0) __syncthreads();
#pragma unroll
    for (int k = 0; k < kTurns; ++k) {
      const int32_t at = (k * kMaxThreads + thread) * kVector;
      float v[kVector];
      load_transformed<kTensor>(t, b, half * static_cast<int32_t>(kHalf) + at, true, kWarpBlock, v);
      put_vector(shared, place, at, v);
    }
    butterflies_of_block(shared, kHalf, 14);
#pragma unroll
    for (int k = 0; k < kTurns && half == 0; ++k)
      get_vector(shared, place, (k * kMaxThreads + thread) * kVector, low[k]);
  }
#pragma unroll
  for (int k = 0; k < kTurns; ++k) {
    const int32_t at = (k * kMaxThreads + thread) * kVector;
    float high[kVector];
    get_vector(shared, place, at, high);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float a = low[k][i], c = high[i];
      low[k][i] = a + c;
      high[i] = a - c;
    }
    t.store(b, at, true, low[k]);
    t.store(b, static_cast<int32_t>(kHalf) + at, true, high);
  }
}

// The second pass: H_m over m pieces of 2^log2 columns of the first. Signs too many to be a parameter lie in `bits`.
__global__ void __launch_bounds__(256)
    in_columns(const Transform t, const float* pieces, const int log2, const Divisor chunks, const Divisor tiles,
               const Signs signs, const uint16_t* bits) {
  const int32_t rest = chunks(static_cast<int32_t>(blockIdx.x));
  const int32_t chunk = static_cast<int32_t>(blockIdx.x) - rest * chunks.size;
  const int32_t block = tiles(rest), tile = rest - block * tiles.size;
  const int32_t column = chunk * 256 + static_cast<int32_t>(threadIdx.x);
  if (column >= 1 << log2) return;
  const float* from = pieces + int64_t{block} * t.size + column;
  float sum[kOutputs] = {};
#pragma unroll 4
  for (int32_t a = 0; a < signs.order; ++a) {
    const int32_t at = a * signs.tiles + tile;
    add_signed(sum, from[a << log2], bits != nullptr ? bits[at] : signs.bits[at]);
  }
  const Transform::Block b = t.block(block);
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) {
    const int32_t at = ((i * tiles.size + tile) << log2) + column;
    if (at < t.size) {
      store_value(t.out.data, t.out.dtype, b.r * t.out.row_stride + (b.c + at) * t.out.col_stride,
                  t.finished(b.c + at, sum[i]));
    }
  }
}

// Part of a table of signs, carried as a parameter so that a captured graph holds it.
__global__ void __launch_bounds__(256) put_signs(const Signs part, uint16_t* to, const int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += 256) to[i] = part.bits[i];
}

// Entries (tile + i tiles, a) of the matrix of order m (m = 8: Sylvester's).
uint16_t twelve_signs(int m, int tiles, bool transpose, int a, int tile) {
  uint16_t bits = 0;
  for (int i = 0; i < kOutputs && tile + i * tiles < m; ++i) {
    const int row = tile + i * tiles;
    bool negative = __builtin_popcount(static_cast<unsigned>(row & a)) % 2 != 0;
    if (m > 8) negative = transpose ? hadamard_matrix(m).negative(a, row) : hadamard_matrix(m).negative(row, a);
    bits = static_cast<uint16_t>(bits | (negative ? 1 << i : 0));
  }
  return bits;
}

// How a block is worked: m pieces of 2^log2.
struct Plan {
  enum class Engine : uint8_t { kLanes, kShared, kHalves, kTwoPasses };
  Engine engine = Engine::kLanes;
  int m = 1, log2 = 0, tiles = 0;

  bool signs_are_long() const { return m * tiles > Signs::kCapacity; }
  int64_t signs_bytes() const { return signs_are_long() ? round_up(int64_t{2} * m * tiles, 256) : 0; }
};

Plan plan_of(const HadamardSize& size, int64_t n) {
  Plan p;
  p.m = size.base;
  p.log2 = size.log2;
  if (p.m == 1 && n <= kWarpBlock) return p;
  if (p.m == 1 && n == kHalved) {
    p.engine = Plan::Engine::kHalves;
    return p;
  }
  if (p.m == 1 && n > kHalved) p.m = 8, p.log2 -= 3;
  p.tiles = p.m == 1 ? 0 : static_cast<int>(ceil_divide(p.m, kOutputs));
  const bool fits = 4 * round_up(n, kVector) + 2 * p.m * p.tiles <= kMaxShared && !p.signs_are_long() && n < kHalved;
  p.engine = fits ? Plan::Engine::kShared : Plan::Engine::kTwoPasses;
  return p;
}

Transform transform_of(const HadamardArgs& a, int64_t n) {
  Transform t;
  t.x = a.x;
  t.out = a.out;
  t.size = static_cast<int32_t>(n);
  t.in_row = static_cast<int32_t>(a.x.cols / n);
  t.blocks = static_cast<int32_t>(a.x.rows * t.in_row);
  t.row_of = Divisor(t.in_row);
  const bool whole = n % kVector == 0 || t.in_row == 1 || n < kVector;  // n < 8: only in_lanes, which moves rows
  t.x_aligned = whole && is_vector_aligned(a.x);
  t.out_aligned = whole && is_vector_aligned(a.out);
  t.sign = {const_cast<float*>(a.sign), DType::kF32, 1, a.sign_length, a.sign_length, 1};
  t.sign_aligned = reinterpret_cast<uintptr_t>(a.sign) % 16 == 0;
  t.sign_period = Divisor(a.sign_length == n ? n : 0);
  t.sign_in = a.sign != nullptr && !a.transpose;
  t.sign_out = a.sign != nullptr && a.transpose;
  t.scale = a.scale;
  return t;
}

Status run(const Transform& t, const Plan& plan, bool transpose, const Call& call);

bool on_tensor_cores(const Transform& t, int64_t power) {
  return t.x.dtype != DType::kF32 && t.x_aligned && power >= 32;
}

Status run_shared(const Transform& t, const Plan& plan, bool transpose, const Call& call) {
  const SharedPlan shared(t.size, plan.m, plan.log2, t.blocks, size_of(t.out.dtype));
  Signs signs;
  signs.order = plan.m;
  signs.tiles = plan.m == 1 ? 0 : shared.tiles_of(plan.m);
  for (int i = 0; i < signs.count(); ++i)
    signs.bits[i] = twelve_signs(plan.m, signs.tiles, transpose, i / signs.tiles, i % signs.tiles);
  const int64_t all = int64_t{shared.group} * shared.vectors.size;
  const int64_t threads = all <= 256 ? round_up(all, 32) : all <= 1024 ? 256 : all <= 2048 ? 512 : kMaxThreads;
  const auto kernel = on_tensor_cores(t, int64_t{1} << plan.log2) ? in_shared<true> : in_shared<false>;
  return launch(kOp, kernel, dim3(static_cast<unsigned>(ceil_divide(t.blocks, shared.group))),
                dim3(static_cast<unsigned>(threads)), shared.shared_bytes() + round_up(2 * signs.count(), 4),
                call.stream, t, shared, signs);
}

Status run_two_passes(const Transform& t, const Plan& plan, bool transpose, const Call& call) {
  auto* const table = static_cast<uint16_t*>(call.workspace);
  auto* const pieces = reinterpret_cast<float*>(static_cast<char*>(call.workspace) + plan.signs_bytes());
  Transform first = t;
  first.size = 1 << plan.log2;
  first.in_row = t.in_row * plan.m;
  first.blocks = t.blocks * plan.m;
  first.row_of = Divisor(first.in_row);
  first.scale = 1.0f;
  first.sign_out = false;
  first.out = {pieces, DType::kF32, t.x.rows, int64_t{t.in_row} * t.size, int64_t{t.in_row} * t.size, 1};
  first.out_aligned = first.out.row_stride % kVector == 0;
  Plan powers;
  powers.log2 = plan.log2;
  powers.engine = first.size <= kWarpBlock ? Plan::Engine::kLanes : Plan::Engine::kShared;
  LOWBIT_RETURN_IF_ERROR(run(first, powers, false, call));

  Signs signs;
  signs.order = plan.m;
  signs.tiles = plan.tiles;
  if (plan.signs_are_long()) {
    for (int at = 0; at < signs.count(); at += Signs::kCapacity) {
      const int count = std::min(Signs::kCapacity, signs.count() - at);
      for (int i = 0; i < count; ++i) {
        signs.bits[i] = twelve_signs(plan.m, plan.tiles, transpose, (at + i) / plan.tiles, (at + i) % plan.tiles);
      }
      LOWBIT_RETURN_IF_ERROR(launch(kOp, put_signs, dim3(1), dim3(256), 0, call.stream, signs, table + at, count));
    }
  } else {
    for (int i = 0; i < signs.count(); ++i) {
      signs.bits[i] = twelve_signs(plan.m, plan.tiles, transpose, i / plan.tiles, i % plan.tiles);
    }
  }
  const int64_t chunks = ceil_divide(first.size, 256);
  return launch(kOp, in_columns, dim3(static_cast<unsigned>(t.blocks * chunks * plan.tiles)), dim3(256), 0, call.stream,
                t, pieces, plan.log2, Divisor(chunks), Divisor(plan.tiles), signs,
                plan.signs_are_long() ? table : nullptr);
}

Status run(const Transform& t, const Plan& plan, bool transpose, const Call& call) {
  switch (plan.engine) {
    case Plan::Engine::kLanes: {
      Transform rows = t;
      rows.size = static_cast<int32_t>(t.x.cols);
      const Tiling tiling = Tiling::of(t.x.rows, t.x.cols, std::max(1, t.size / kVector));
      const auto kernel = on_tensor_cores(t, t.size) ? in_lanes<true> : in_lanes<false>;
      return launch(kOp, kernel, dim3(tiling.grid()), dim3(static_cast<unsigned>(tiling.threads)), 0, call.stream, rows,
                    tiling, static_cast<int>(t.size));
    }
    case Plan::Engine::kShared: return run_shared(t, plan, transpose, call);
    case Plan::Engine::kHalves: {
      const auto kernel = on_tensor_cores(t, kHalf) ? in_halves<true> : in_halves<false>;
      return launch(kOp, kernel, dim3(static_cast<unsigned>(t.blocks)), dim3(kMaxThreads), 4 * kHalf, call.stream, t);
    }
    default: return run_two_passes(t, plan, transpose, call);
  }
}

}  // namespace

int64_t hadamard_workspace(const HadamardArgs& args) {
  const HadamardSize size = hadamard_size(args.block);
  if (!size.base) return 0;
  const Plan plan = plan_of(size, args.block);
  if (plan.engine != Plan::Engine::kTwoPasses) return 0;
  return plan.signs_bytes() + 4 * args.x.rows * args.x.cols;
}

Status hadamard(const HadamardArgs& args, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(kOp, call, &device));
  HadamardSize size;
  LOWBIT_RETURN_IF_ERROR(check_hadamard(args, &size));
  LOWBIT_RETURN_IF_ERROR(check_workspace(kOp, call, hadamard_workspace(args)));
  LOWBIT_RETURN_IF_ERROR(check_size(kOp, "x", args.x.rows, args.x.cols));
  if (args.x.rows == 0 || args.x.cols == 0) return Status();
  LOWBIT_RETURN_IF_ERROR(check_size(kOp, "x in blocks", args.x.rows * (args.x.cols / args.block), 1));
  return run(transform_of(args, args.block), plan_of(size, args.block), args.transpose, call);
}

}  // namespace lowbit::cuda
