// Thirty-two codes of a row to and from memory: a thread's share where layouts are changed. 32 columns are one word of
// every plane, 16 bytes of 4-bit codes, 24 of 6-bit ones, 32 plain bytes. Neighbouring lanes move whole sectors
// together: consecutive words of a plane, and 32 consecutive bytes of the rest.
#pragma once

#include <cstdint>

#include "cuda/tile/codes.cuh"
#include "cuda/tile/sectors.cuh"

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
