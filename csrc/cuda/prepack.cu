#include "cuda/prepack.h"
#include "cuda/tile/code_rows.cuh"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBandWords = 128;  // 512 columns: 8 tiles of mma64, 128 of tile16

// Codes of 16 rows x 512 columns, four a word. Rows are four banks apart: a warp reads one word of eight rows and four
// columns, or 32 neighbouring words of one row, without conflict.
struct Band {
  static constexpr int kStride = kBandWords + 4;
  uint32_t word[16 * kStride];
};

// Words of tile16 after which threads that move 2 bits words each come to the same banks again: the least multiple of
// 2 bits and 32.
int64_t bank_run(int bits) {
  int odd = bits;
  while (odd % 2 == 0) odd /= 2;
  return int64_t{32} * odd;
}

struct Tiles {
  uint8_t* data = nullptr;
  Layout layout = Layout::kMma64;
  int bits = 8;
  int32_t rows = 0, cols = 0;
  int64_t in_row = 0;  // tiles side by side
  Divisor bank_run;

  Tiles() = default;
  Tiles(Layout tiled, const void* codes, int width, int64_t row_count, int64_t col_count)
      : data(static_cast<uint8_t*>(const_cast<void*>(codes))),
        layout(tiled),
        bits(width),
        rows(static_cast<int32_t>(row_count)),
        cols(static_cast<int32_t>(col_count)),
        in_row(ceil_divide(col_count, tile_cols(tiled))),
        bank_run(cuda::bank_run(width)) {}
};

struct Place16 {
  int32_t row0, word0;  // the band's first row, and column / 4
};
__device__ __forceinline__ Place16 band_place(int32_t col_bands) {
  const auto band = static_cast<int32_t>(blockIdx.x);
  return {band / col_bands * 16, band % col_bands * kBandWords};
}

// ---- rows: a thread has 32 columns of one row

__device__ __forceinline__ void load_band(const CodeRows& from, Place16 at, Band& band) {
  const int r = static_cast<int>(threadIdx.x) / 16, w = static_cast<int>(threadIdx.x) % 16;
  const Codes32 x = from.load(at.row0 + r, at.word0 / 8 + w);
  auto* to = reinterpret_cast<uint4*>(band.word + r * Band::kStride + 8 * w);
  // eight lanes write 16 bytes each to different banks: which half comes first differs between them
  const bool swapped = ((w ^ w >> 2) & 1) != 0;
  const uint4 low = make_uint4(x.word[0], x.word[1], x.word[2], x.word[3]);
  const uint4 high = make_uint4(x.word[4], x.word[5], x.word[6], x.word[7]);
  to[swapped ? 1 : 0] = swapped ? high : low;
  to[swapped ? 0 : 1] = swapped ? low : high;
}
__device__ __forceinline__ void store_band(const CodeRows& to, Place16 at, const Band& band) {
  const int r = static_cast<int>(threadIdx.x) / 16, w = static_cast<int>(threadIdx.x) % 16;
  const auto* from = reinterpret_cast<const uint4*>(band.word + r * Band::kStride + 8 * w);
  const bool swapped = ((w ^ w >> 2) & 1) != 0;
  const uint4 first = from[swapped ? 1 : 0], second = from[swapped ? 0 : 1];
  const uint4 low = swapped ? second : first, high = swapped ? first : second;
  to.store(at.row0 + r, at.word0 / 8 + w, {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}});
}

// ---- mma64: a warp has a tile, a lane its 32 codes

__device__ __forceinline__ int mma_word(int i) {  // of word i of this lane
  const int lane = static_cast<int>(threadIdx.x % 32);
  return (lane / 4 + 8 * (i % 2)) * Band::kStride + static_cast<int>(threadIdx.x / 32) * 16 + 4 * (i / 2) + lane % 4;
}

__device__ __forceinline__ uint8_t* mma_tile(const Tiles& t, Place16 at) {
  const int64_t col = at.word0 / 16 + static_cast<int>(threadIdx.x / 32);
  return col < t.in_row ? t.data + (at.row0 / 16 * t.in_row + col) * 128 * t.bits : nullptr;
}

__device__ __forceinline__ void store_mma(const Tiles& to, Place16 at, const Band& band) {
  uint8_t* tile = mma_tile(to, at);
  if (tile == nullptr) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint32_t c[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) c[i] = band.word[mma_word(i)];
  if (to.bits == 8) {
    auto* p = reinterpret_cast<uint4*>(tile) + lane;
    p[0] = make_uint4(c[0], c[1], c[2], c[3]);
    p[32] = make_uint4(c[4], c[5], c[6], c[7]);
    return;
  }
  if (to.bits & 4) {
    uint32_t v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = (c[2 * k] & 0x0f0f0f0fu) | (c[2 * k + 1] & 0x0f0f0f0fu) << 4;
    reinterpret_cast<uint4*>(tile)[lane] = make_uint4(v[0], v[1], v[2], v[3]);
  }
  int low = to.bits & 4;
  if (to.bits & 2) {
    uint32_t v[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i / 4] |= (c[i] >> low & 0x03030303u) << (2 * (i % 4));
    reinterpret_cast<uint2*>(tile + 128 * low)[lane] = make_uint2(v[0], v[1]);
    low += 2;
  }
  if (to.bits & 1) {
    uint32_t v = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) v |= (c[i] >> low & 0x01010101u) << i;
    reinterpret_cast<uint32_t*>(tile + 128 * low)[lane] = v;
  }
}

// What lies past the matrix in a tile is not looked at: a file may hold anything there.
__device__ __forceinline__ void put_word(const Tiles& t, Place16 at, Band& band, int index, uint32_t codes) {
  const int r = index / Band::kStride, w = index % Band::kStride;
  const bool inside = at.row0 + r < t.rows;
  band.word[index] = inside ? first_bytes(codes, t.cols - 4 * (at.word0 + w)) : 0u;
}

__device__ __forceinline__ void load_mma(const Tiles& from, Place16 at, Band& band) {
  const uint8_t* tile = mma_tile(from, at);
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint32_t c[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  if (tile != nullptr) {
    if (from.bits == 8) {
      const auto* p = reinterpret_cast<const uint4*>(tile) + lane;
      const uint4 a = p[0], b = p[32];
      c[0] = a.x, c[1] = a.y, c[2] = a.z, c[3] = a.w, c[4] = b.x, c[5] = b.y, c[6] = b.z, c[7] = b.w;
    } else {
      if (from.bits & 4) {
        const uint4 q = reinterpret_cast<const uint4*>(tile)[lane];
        const uint32_t v[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) c[i] = v[i / 2] >> (4 * (i % 2)) & 0x0f0f0f0fu;
      }
      int low = from.bits & 4;
      if (from.bits & 2) {
        const uint2 q = reinterpret_cast<const uint2*>(tile + 128 * low)[lane];
#pragma unroll
        for (int i = 0; i < 8; ++i) c[i] |= ((i < 4 ? q.x : q.y) >> (2 * (i % 4)) & 0x03030303u) << low;
        low += 2;
      }
      if (from.bits & 1) {
        const uint32_t v = reinterpret_cast<const uint32_t*>(tile + 128 * low)[lane];
#pragma unroll
        for (int i = 0; i < 8; ++i) c[i] |= (v >> i & 0x01010101u) << low;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) put_word(from, at, band, mma_word(i), c[i]);
}

// ---- tile16: a thread has eight rows of a tile, `bits` words; they go through shared memory, so that memory sees
// neighbouring words at once

__device__ __forceinline__ int tile_word(int i) {  // row i of the thread's eight
  return (static_cast<int>(threadIdx.x) / kBandWords * 8 + i) * Band::kStride +
         static_cast<int>(threadIdx.x) % kBandWords;
}

// The words of 128 tiles, with a word left out after every `run`, bank_run(bits).
struct TileWords {
  uint32_t word[16 * kBandWords * 33 / 32];

  __device__ __forceinline__ uint32_t& at(int i, const Divisor& run) { return word[i + run(i)]; }
};

struct TileRun {
  uint32_t* data;
  int words;
};
__device__ __forceinline__ TileRun tile_run(const Tiles& t, Place16 at) {
  const int64_t left = t.in_row - at.word0;
  const int n = left < kBandWords ? static_cast<int>(left) : kBandWords;
  return {reinterpret_cast<uint32_t*>(t.data) + (at.row0 / 16 * t.in_row + at.word0) * 2 * t.bits, n * 2 * t.bits};
}
__device__ __forceinline__ int first_word(int bits) {  // of the thread
  const int thread = static_cast<int>(threadIdx.x);
  return (thread % kBandWords * 2 + thread / kBandWords) * bits;
}

// Holds a barrier.
__device__ __forceinline__ void store_tile16(const Tiles& to, Place16 at, const Band& band, TileWords& words) {
  uint64_t ready = 0;  // bits that do not fill a word yet
  int filled = 0, next = first_word(to.bits);
  const auto put = [&](uint32_t v, int n) {
    ready |= static_cast<uint64_t>(v) << filled;
    filled += n;
    if (filled < 32) return;
    words.at(next++, to.bank_run) = static_cast<uint32_t>(ready);
    ready >>= 32;
    filled -= 32;
  };
#pragma unroll 1
  for (int g = 0; g < 4; ++g) {
    Codes8 x;
    x.low = band.word[tile_word(2 * g)], x.high = band.word[tile_word(2 * g + 1)];
    if (to.bits < 8) transpose_bits(x);
    put(x.low, to.bits < 4 ? 8 * to.bits : 32);
    if (to.bits > 4) put(x.high, 8 * to.bits - 32);
  }
  __syncthreads();
  const TileRun run = tile_run(to, at);
  for (int i = static_cast<int>(threadIdx.x); i < run.words; i += kThreads) run.data[i] = words.at(i, to.bank_run);
}
__device__ __forceinline__ void load_tile16(const Tiles& from, Place16 at, Band& band, TileWords& words) {
  const TileRun run = tile_run(from, at);
  for (int i = static_cast<int>(threadIdx.x); i < run.words; i += kThreads) words.at(i, from.bank_run) = run.data[i];
  __syncthreads();
  uint64_t ready = 0;
  int filled = 0, next = first_word(from.bits);
  const auto take = [&](int n) {
    if (filled < n) {
      ready |= static_cast<uint64_t>(words.at(next++, from.bank_run)) << filled;
      filled += 32;
    }
    const auto v = static_cast<uint32_t>(ready) & ~0u >> (32 - n);
    ready >>= n;
    filled -= n;
    return v;
  };
  const bool there = static_cast<int>(threadIdx.x) % kBandWords * 2 * from.bits < run.words;
#pragma unroll 1
  for (int g = 0; g < 4; ++g) {
    Codes8 x;
    if (there) {
      x.low = take(from.bits < 4 ? 8 * from.bits : 32);
      if (from.bits > 4) x.high = take(8 * from.bits - 32);
      if (from.bits < 8) transpose_bits(x);
    }
    put_word(from, at, band, tile_word(2 * g), x.low);
    put_word(from, at, band, tile_word(2 * g + 1), x.high);
  }
}

// ---- kernels: one for every pair

enum class Side : uint8_t { kRows, kMma64, kTile16 };

struct Job {
  CodeRows rows;   // where a side is rows
  Tiles from, to;  // where it is tiles
  int32_t col_bands;
};

template <Side kFrom, Side kTo>
__global__ void __launch_bounds__(kThreads) relayout(const Job job) {
  __shared__ __align__(16) Band band;
  struct None {};
  __shared__ std::conditional_t<kFrom == Side::kTile16 || kTo == Side::kTile16, TileWords, None> words;
  const Place16 at = band_place(job.col_bands);
  if constexpr (kFrom == Side::kRows) load_band(job.rows, at, band);
  if constexpr (kFrom == Side::kMma64) load_mma(job.from, at, band);
  if constexpr (kFrom == Side::kTile16) load_tile16(job.from, at, band, words);
  __syncthreads();
  if constexpr (kTo == Side::kRows) store_band(job.rows, at, band);
  if constexpr (kTo == Side::kMma64) store_mma(job.to, at, band);
  if constexpr (kTo == Side::kTile16) store_tile16(job.to, at, band, words);
}

template <Side kFrom, Side kTo>
Status run(const char* op, Job job, int64_t rows, int64_t cols, const Call& call) {
  job.col_bands = static_cast<int32_t>(ceil_divide(cols, 4 * kBandWords));
  const dim3 grid(static_cast<unsigned>(job.col_bands * ceil_divide(rows, 16)));
  return launch(op, relayout<kFrom, kTo>, grid, dim3(kThreads), 0, call.stream, job);
}

Status ready(const char* op, const char* argument, const Codes& codes, const void* tiles) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(current_device(op, &device));
  LOWBIT_RETURN_IF_ERROR(check_size(op, argument, codes.rows, codes.cols));
  if (reinterpret_cast<uintptr_t>(tiles) % 16 == 0) return Status();
  return invalid(op, ": tiled codes must be aligned to 16 bytes, got ", reinterpret_cast<uintptr_t>(tiles) % 16,
                 " bytes past; copy them to memory of their own");
}

Status copy_from_tiles(const char* op, const Codes& tiles, const CodeRows& to, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(ready(op, "w", tiles, tiles.data));
  Job job;
  job.rows = to;
  job.from = Tiles(tiles.layout, tiles.data, tiles.format->bits, tiles.rows, tiles.cols);
  const auto run_rows =
      tiles.layout == Layout::kMma64 ? run<Side::kMma64, Side::kRows> : run<Side::kTile16, Side::kRows>;
  return run_rows(op, job, tiles.rows, tiles.cols, call);
}

}  // namespace

Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(ready("prepack", "w", codes, out));
  const int bits = codes.format->bits;
  Job job;
  job.to = Tiles(layout, out, bits, codes.rows, codes.cols);
  const bool mma = layout == Layout::kMma64;
  if (!is_tiled(codes.layout)) {
    job.rows = CodeRows::of(codes);
    const auto run_rows = mma ? run<Side::kRows, Side::kMma64> : run<Side::kRows, Side::kTile16>;
    return run_rows("prepack", job, codes.rows, codes.cols, call);
  }
  if (reinterpret_cast<uintptr_t>(codes.data) % 16 != 0) return ready("prepack", "w", codes, codes.data);
  job.from = Tiles(codes.layout, codes.data, bits, codes.rows, codes.cols);
  const auto run_tiles = codes.layout == Layout::kMma64
                             ? (mma ? run<Side::kMma64, Side::kMma64> : run<Side::kMma64, Side::kTile16>)
                             : (mma ? run<Side::kTile16, Side::kMma64> : run<Side::kTile16, Side::kTile16>);
  return run_tiles("prepack", job, codes.rows, codes.cols, call);
}

Status unprepack(const Codes& tiles, void* out, const Call& call) {
  const CodeRows to = CodeRows::contiguous(*tiles.format, out, tiles.rows, tiles.cols);
  return copy_from_tiles("unprepack", tiles, to, call);
}

Status unpack_tiles(const Codes& tiles, uint8_t* out, const Call& call) {
  const CodeRows to = CodeRows::plain(out, tiles.format->bits, tiles.rows, tiles.cols, tiles.cols);
  return copy_from_tiles("unpack", tiles, to, call);
}

}  // namespace lowbit::cuda
