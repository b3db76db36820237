// Thirty-two codes of a row to and from memory: a thread's share where layouts are changed. 32 columns are one word of
// every plane, 16 bytes of 4-bit codes, 24 of 6-bit ones, 32 plain bytes. Neighbouring lanes move whole sectors
// together: consecutive words of a plane, and 32 consecutive bytes of the rest.
#pragma once

#include <cstdint>

#include "cuda/tile/codes.cuh"

namespace lowbit::cuda {

// Codes 4 i .. 4 i + 3 are the bytes of word i; those past the row are zero.
struct Codes32 {
  uint32_t word[8] = {0, 0, 0, 0, 0, 0, 0, 0};
};

// The first `n` bytes (all where n >= 4, none where n <= 0).
__device__ __forceinline__ uint32_t first_bytes(uint32_t v, int n) {
  return n >= 4 ? v : n <= 0 ? 0u : v & ((1u << (8 * n)) - 1u);
}

// A matrix of rows of codes: plain, or one of the canonical layouts.
struct CodeRows {
  uint8_t* data = nullptr;
  int64_t row_stride = 0, plane_stride = 0;  // in storage elements
  int32_t rows = 0, cols = 0;
  Canonical kind = Canonical::kBytes;
  int bits = 8;
  bool high_first = false;  // kPacked4: element 2 q in the high half
  bool wide = false;        // whole groups of 32 codes are aligned to 16 bytes (kPacked6: 8)

  CodeRows() = default;
  CodeRows(const void* codes, Canonical k, int width, int64_t row_count, int64_t col_count, int64_t row, int64_t plane)
      : data(static_cast<uint8_t*>(const_cast<void*>(codes))),
        row_stride(row),
        plane_stride(plane),
        rows(static_cast<int32_t>(row_count)),
        cols(static_cast<int32_t>(col_count)),
        kind(k),
        bits(width) {
    const unsigned unit = kind == Canonical::kPacked6 ? 8 : 16;
    wide = reinterpret_cast<uintptr_t>(codes) % unit == 0 && row_stride % static_cast<int64_t>(unit) == 0;
  }
  static CodeRows of(const Codes& c) {
    return CodeRows(c.data, c.layout == Layout::kPlain ? Canonical::kBytes : canonical(*c.format), c.format->bits,
                    c.rows, c.cols, c.row_stride, c.plane_stride);
  }
  static CodeRows plain(const uint8_t* codes, int width, int64_t rows, int64_t cols, int64_t row_stride) {
    return CodeRows(codes, Canonical::kBytes, width, rows, cols, row_stride, 0);
  }
  static CodeRows contiguous(const ElementFormat& f, void* codes, int64_t rows, int64_t cols) {
    const int64_t row = canonical_row(canonical(f), cols);
    return CodeRows(codes, canonical(f), f.bits, rows, cols, row, row * rows);
  }

  // Columns 32 w .. 32 w + 31 of row r; zeros past the matrix. `raw`: bytes as they are, not cut to the format's bits.
  // All 32 lanes call these, four neighbouring lanes with the same row and four neighbouring w from a multiple of four
  // (two of two, but for kPacked6).
  __device__ __forceinline__ Codes32 load(int32_t r, int32_t w, bool raw = false) const;
  __device__ __forceinline__ void store(int32_t r, int32_t w, const Codes32& x) const;

 private:
  __device__ __forceinline__ uint8_t* row(int32_t r) const { return data + r * row_stride; }

  // kWords 32-bit words at p, of which `n` bytes are there; one by one.
  template <int kWords>
  static __device__ __forceinline__ void load_bytes(const uint8_t* p, int n, uint32_t (&v)[kWords]) {
#pragma unroll
    for (int i = 0; i < 4 * kWords; ++i) {
      if (i % 4 == 0) v[i / 4] = 0;
      if (i < n) v[i / 4] |= static_cast<uint32_t>(p[i]) << (8 * (i % 4));
    }
  }
  template <int kWords>
  static __device__ __forceinline__ void store_bytes(uint8_t* p, int n, const uint32_t (&v)[kWords]) {
#pragma unroll
    for (int i = 0; i < 4 * kWords; ++i) {
      if (i < n) p[i] = static_cast<uint8_t>(v[i / 4] >> (8 * (i % 4)));
    }
  }

  // Whole aligned groups. Two lanes have 64 bytes: in each of two accesses they move 32 bytes of one of them, a whole
  // sector, and swap halves. `whole`: the groups of both lanes are.
  static __device__ __forceinline__ void load_pair(const uint8_t* p, bool whole, uint32_t (&v)[8]) {
    const bool odd = threadIdx.x & 1;
    const auto* from = reinterpret_cast<const uint4*>(odd ? p - 32 : p) + odd;
    uint4 first = make_uint4(0, 0, 0, 0), second = first;
    if (whole) first = from[0], second = from[2];
    // even: its own low half and the other's, odd: the other's high half and its own
    uint32_t mine[4] = {odd ? second.x : first.x, odd ? second.y : first.y, odd ? second.z : first.z,
                        odd ? second.w : first.w};
    uint32_t other[4] = {odd ? first.x : second.x, odd ? first.y : second.y, odd ? first.z : second.z,
                         odd ? first.w : second.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      other[i] = __shfl_xor_sync(0xffffffffu, other[i], 1);
      v[i] = odd ? other[i] : mine[i];
      v[4 + i] = odd ? mine[i] : other[i];
    }
  }
  static __device__ __forceinline__ void store_pair(uint8_t* p, bool whole, const uint32_t (&v)[8]) {
    const bool odd = threadIdx.x & 1;
    uint32_t first[4], second[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? v[i] : v[4 + i], 1);
      first[i] = odd ? other : v[i];
      second[i] = odd ? v[4 + i] : other;
    }
    if (!whole) return;
    auto* to = reinterpret_cast<uint4*>(odd ? p - 32 : p) + odd;
    to[0] = make_uint4(first[0], first[1], first[2], first[3]);
    to[2] = make_uint4(second[0], second[1], second[2], second[3]);
  }
  // Four lanes have 96 bytes, twelve units of 8: in access j they move units 4 j .. 4 j + 3, a sector. Unit 3 q + i is
  // the i-th of lane q of the four, and lane s = (3 q + i) mod 4 moves it, so q = 3 (s - i) mod 4.
  static __device__ __forceinline__ void load_four(const uint8_t* p, bool whole, uint32_t (&v)[6]) {
    const int lane = static_cast<int>(threadIdx.x % 32), q = lane % 4;
    const auto* from = reinterpret_cast<const uint2*>(p - 24 * q) + q;
    uint2 unit[3];
#pragma unroll
    for (int j = 0; j < 3; ++j) unit[j] = whole ? from[4 * j] : make_uint2(0, 0);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const int j = (3 * (3 * (q - i) & 3) + i) / 4;  // what the lane gives
      const uint2 given = j == 0 ? unit[0] : j == 1 ? unit[1] : unit[2];
      const int source = lane - q + (3 * q + i & 3);
      v[2 * i] = __shfl_sync(0xffffffffu, given.x, source);
      v[2 * i + 1] = __shfl_sync(0xffffffffu, given.y, source);
    }
  }
  static __device__ __forceinline__ void store_four(uint8_t* p, bool whole, const uint32_t (&v)[6]) {
    const int lane = static_cast<int>(threadIdx.x % 32), q = lane % 4;
    uint2 unit[3];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const int owner = 3 * (q - i) & 3, j = (3 * owner + i) / 4;
      const uint2 taken = make_uint2(__shfl_sync(0xffffffffu, v[2 * i], lane - q + owner),
                                     __shfl_sync(0xffffffffu, v[2 * i + 1], lane - q + owner));
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        if (k == j) unit[k] = taken;
      }
    }
    if (!whole) return;
    auto* to = reinterpret_cast<uint2*>(p - 24 * q) + q;
#pragma unroll
    for (int j = 0; j < 3; ++j) to[4 * j] = unit[j];
  }
};

__device__ __forceinline__ Codes32 CodeRows::load(int32_t r, int32_t w, bool raw) const {
  Codes32 x;
  const int64_t left = r < rows ? cols - 32 * int64_t{w} : 0;
  const int n = left <= 0 ? 0 : left < 32 ? static_cast<int>(left) : 32;
  switch (kind) {
    case Canonical::kPlanes: {
      const auto* words = reinterpret_cast<const uint32_t*>(data) + r * row_stride + w;
      uint32_t plane[8];
#pragma unroll
      for (int b = 0; b < 8; ++b) plane[b] = n > 0 && b < bits ? words[(bits - 1 - b) * plane_stride] : 0u;
#pragma unroll
      for (int g = 0; g < 4; ++g) {  // byte g of eight planes: an 8 x 8 bit matrix, a plane a row
        const uint32_t pair = static_cast<uint32_t>(g | (4 + g) << 4);
        Codes8 codes;
        codes.low = ptx::prmt(ptx::prmt(plane[0], plane[1], pair), ptx::prmt(plane[2], plane[3], pair), 0x5410u);
        codes.high = ptx::prmt(ptx::prmt(plane[4], plane[5], pair), ptx::prmt(plane[6], plane[7], pair), 0x5410u);
        transpose_bits(codes);
        x.word[2 * g] = codes.low, x.word[2 * g + 1] = codes.high;
      }
      break;
    }
    case Canonical::kBytes: {
      const uint8_t* p = row(r) + 32 * int64_t{w};
      const bool whole = wide && left + 32 * (w & 1) >= 64;
      load_pair(p, whole, x.word);
      if (!whole) load_bytes(p, n, x.word);
      const uint32_t mask = raw ? ~0u : ((1u << bits) - 1u) * 0x01010101u;
#pragma unroll
      for (int i = 0; i < 8; ++i) x.word[i] &= mask;
      return x;
    }
    case Canonical::kPacked4: {
      uint32_t v[4];
      const uint8_t* p = row(r) + 16 * int64_t{w};
      if (wide && n == 32) {
        const uint4 q = *reinterpret_cast<const uint4*>(p);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
      } else {
        load_bytes(p, (n + 1) / 2, v);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t even = v[i] & 0x0f0f0f0fu, odd = v[i] >> 4 & 0x0f0f0f0fu;
        if (high_first) {
          const uint32_t low = even;
          even = odd;
          odd = low;
        }
        x.word[2 * i] = ptx::prmt(even, odd, 0x5140u);
        x.word[2 * i + 1] = ptx::prmt(even, odd, 0x7362u);
      }
      break;
    }
    default: {
      uint32_t v[6];
      const uint8_t* p = row(r) + 24 * int64_t{w};
      const bool whole = wide && left + 32 * (w & 3) >= 128;
      load_four(p, whole, v);
      if (!whole) load_bytes(p, (n + 3) / 4 * 3, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int at = 24 * i / 32, shift = 24 * i % 32;
        const uint32_t q = __funnelshift_r(v[at], v[at < 5 ? at + 1 : 5], shift);
        x.word[i] = (q & 63u) | (q >> 6 & 63u) << 8 | (q >> 12 & 63u) << 16 | (q >> 18 & 63u) << 24;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) x.word[i] = first_bytes(x.word[i], n - 4 * i);
  return x;
}

__device__ __forceinline__ void CodeRows::store(int32_t r, int32_t w, const Codes32& x) const {
  const int64_t left = r < rows ? cols - 32 * int64_t{w} : 0;
  const int n = left <= 0 ? 0 : left < 32 ? static_cast<int>(left) : 32;
  switch (kind) {
    case Canonical::kPlanes: {
      auto* words = reinterpret_cast<uint32_t*>(data) + r * row_stride + w;
      Codes8 turned[4];
#pragma unroll
      for (int g = 0; g < 4; ++g) {
        turned[g].low = x.word[2 * g], turned[g].high = x.word[2 * g + 1];
        transpose_bits(turned[g]);
      }
#pragma unroll
      for (int b = 0; b < 8; ++b) {
        if (b >= bits || n == 0) break;
        const uint32_t pair = static_cast<uint32_t>(b % 4 | (4 + b % 4) << 4);
        const uint32_t v[4] = {b < 4 ? turned[0].low : turned[0].high, b < 4 ? turned[1].low : turned[1].high,
                               b < 4 ? turned[2].low : turned[2].high, b < 4 ? turned[3].low : turned[3].high};
        words[(bits - 1 - b) * plane_stride] =
            ptx::prmt(ptx::prmt(v[0], v[1], pair), ptx::prmt(v[2], v[3], pair), 0x5410u);
      }
      return;
    }
    case Canonical::kBytes: {
      uint8_t* p = row(r) + 32 * int64_t{w};
      const bool whole = wide && left + 32 * (w & 1) >= 64;
      store_pair(p, whole, x.word);
      if (!whole) store_bytes(p, n, x.word);
      return;
    }
    case Canonical::kPacked4: {
      uint32_t v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t even = ptx::prmt(x.word[2 * i], x.word[2 * i + 1], 0x6420u);
        const uint32_t odd = ptx::prmt(x.word[2 * i], x.word[2 * i + 1], 0x7531u);
        v[i] = high_first ? odd | even << 4 : even | odd << 4;
      }
      uint8_t* p = row(r) + 16 * int64_t{w};
      if (wide && n == 32) {
        *reinterpret_cast<uint4*>(p) = make_uint4(v[0], v[1], v[2], v[3]);
      } else {
        store_bytes(p, (n + 1) / 2, v);
      }
      return;
    }
    default: {
      uint32_t q[8], v[6];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const uint32_t c = x.word[i];
        q[i] = (c & 63u) | (c >> 8 & 63u) << 6 | (c >> 16 & 63u) << 12 | (c >> 24 & 63u) << 18;
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {  // four times 24 bits to three words
        v[3 * h] = q[4 * h] | q[4 * h + 1] << 24;
        v[3 * h + 1] = q[4 * h + 1] >> 8 | q[4 * h + 2] << 16;
        v[3 * h + 2] = q[4 * h + 2] >> 16 | q[4 * h + 3] << 8;
      }
      uint8_t* p = row(r) + 24 * int64_t{w};
      const bool whole = wide && left + 32 * (w & 3) >= 128;
      store_four(p, whole, v);
      if (!whole) store_bytes(p, (n + 3) / 4 * 3, v);
    }
  }
}

}  // namespace lowbit::cuda
