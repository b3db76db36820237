// The GEMM for many rows of x: a block of four warps computes 128 rows of w by 64 rows of x, a warp 32 by 64; sums of
// the current part and results stay in registers. w is the 16-row operand, so the output tile is transposed:
//
//   warp i: rows 32 i .. 32 i + 31 of w (two fragments), all 64 rows of x (eight fragments)
//   lane l: rows l / 4 + 8 h of each w fragment, rows 2 (l % 4) + j of each x fragment       (c[2 h + j])
//
// kBits > 0: mma64 weights come by cp.async and are unpacked in registers while the next steps are under way. kBits ==
// 0: any layout and any cut of K, by way of registers into rows. Scales and zero points of groups come by cp.async too,
// a sector of every row at a time (value_window.cuh), a step ahead of the weights; those of the next step are decoded
// (their second level included) after a step is multiplied. Codes of block scales are multiplied from where they came.
//
// Where tiles are few, blocks share K: each has a stripe of it and leaves what stripes.cuh says.
//
// Floors of a 128 x 64 x 64 step, bytes: 128 multiplies of 16 x 8 x 32; kBits KB of weights and 4 KB of x from L2 or
// DRAM; kBits KB read once and 4 KB read four times from shared memory.
#pragma once

#include "cuda/tile/expert_rows.cuh"
#include "cuda/tile/stripe_parts.cuh"

namespace lowbit::cuda {

template <class E, int kBits>
class WideGemm {
  using Sum = typename E::Sum;
  using Shared = WideShared<E, kBits>;

 public:
  __device__ __forceinline__ WideGemm(const GemmParams& params, Shared* s)
      : p(params),
        shared(*s),
        data(reinterpret_cast<uint4*>(reinterpret_cast<uint8_t*>(s) + Shared::header())),
        end(params.k) {}

  __device__ __forceinline__ void run() {
    const auto block = static_cast<int32_t>(blockIdx.x), row_tile = p.across(block);
    n0 = (block - row_tile * p.across.size) * Wide::kRowsW;
    if (!place(row_tile)) return;
    if (shares_k(p)) {
      begin = static_cast<int32_t>(blockIdx.y) * p.stripe;
      end = begin + min(p.stripe, p.k - begin);
    }
    const int32_t first = begin / kStepSlots;  // a multiple of kStepRing
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0 && !p.even) {
      shared.walker.start(p, begin, end, cuts_units());
      for (int i = 0; i <= max(p.stages, 2); ++i) shared.walker.next(p, cuts_units(), &shared.steps[i]);
    }
    fill_tables<kBits>(p, &shared.tables, thread, Wide::kThreads);
    clear_sums();
    __syncthreads();
    if (thread < Wide::kRowsX) {
      shared.last_scale[thread] = last_scale(p, min(m0() + thread, row_end() - 1));
    }
    const bool alone = kOneStage && p.stages == 1;  // what is brought in a turn is multiplied in it
    const int lead = alone ? 2 : p.stages;          // steps from s on whose windows come
    bring_windows(p.even ? begin : shared.steps[0].last_scales());
    bring_codes(p.even ? begin : shared.steps[0].end() - 1);
    ptx::cp_async_commit_group();
    int32_t left = 0;  // columns of the part behind this step, p.even
    // of steps s and s + stages - 1; stage 1 - stages + stages = 1
    int stage = alone ? 0 : 1;
#pragma unroll 1
    for (int32_t s = first + 1 - lead;; ++s) {
      // steps before the first only fill; the last of them needs the windows of the first
      const int32_t a = s + p.stages - 1;
      const Step& step = shared.steps[s & (kStepRing - 1)];
      const Step& ahead = shared.steps[a & (kStepRing - 1)];
      if (s >= first - 1) {
        wait_stages(p.stages - 2);
        __syncthreads();
        if (s >= first && (p.even ? !exists(s) : step.pieces[0].length == 0)) break;  // the same for all
        // seen by all behind the next barrier; nobody reads its place before
        if (s >= first && thread == 0 && !p.even)
          shared.walker.next(p, cuts_units(), &shared.steps[(s + lead + 1) & (kStepRing - 1)]);
      }
      const Step& next = shared.steps[(s + 1) & (kStepRing - 1)];
      if (s >= first) left = (left <= 0 ? p.part : left) - kStepSlots;
      const int32_t column = s >= first - 1 ? first_scales(next, s, left, s < first) : -1;
      scales_load(column);
      if ((!kOneStage || a >= first) && (p.even ? exists(a) : ahead.pieces[0].length != 0))
        fill(ahead, a, stage == 0 ? p.stages - 1 : stage - 1);
      if (p.even) {
        if (exists(s + lead)) bring_windows((s + lead) * kStepSlots);
        if (exists(a + 1)) bring_codes((a + 1) * kStepSlots);
      } else {
        bring_windows(shared.steps[(s + lead) & (kStepRing - 1)].last_scales());
        bring_codes(shared.steps[(a + 1) & (kStepRing - 1)].end() - 1);
      }
      ptx::cp_async_commit_group();
      if (alone) {
        ptx::cp_async_wait_group<0>();
        __syncthreads();
      }
      if (s >= first) compute(step, s, stage, left);
      scales_store(next, column, s, s < first);
      stage = stage + 1 == p.stages ? 0 : stage + 1;
    }
    ptx::cp_async_wait_group<0>();
    if (shares_k(p)) {
      leave();
    } else {
      write();
    }
  }

 private:
  // Within the loop over steps: sums and results leave few registers for addresses.
  static __device__ __forceinline__ int this_thread() { return ptx::opaque(static_cast<int>(threadIdx.x)); }
  static __device__ __forceinline__ int this_lane() { return ptx::opaque(static_cast<int>(threadIdx.x)) & 31; }
  static __device__ __forceinline__ int this_warp() { return ptx::opaque(static_cast<int>(threadIdx.x)) >> 5; }

  // Rows of three terms in both operands leave no room for a second stage on devices with 99 KB a block. They go
  // through registers, so that little is lost: all that a stage more would hide is the copy of x.
  static constexpr bool kOneStage = kBits == 0 && !E::kBytes;
  // Zero points of 32 bits may lie anywhere: their join takes 64.
  static constexpr bool kFarZeros = kBits == 0 && E::kInteger && !E::kNibbles;

  // Which rows of x, of which expert. False: none. Seen by all behind the next barrier.
  __device__ __forceinline__ bool place(int32_t tile) {
    ExpertRows found{0, tile * Wide::kRowsX, p.m};
    if (p.offs != nullptr && !find_expert_rows(p.offs, p.experts, p.m, Wide::kRowsX, tile, &found)) return false;
    if (threadIdx.x == 0) shared.expert = found.expert, shared.m0 = found.begin, shared.row_end = found.end;
    return true;
  }
  // In shared memory: sums and results leave no registers.
  __device__ __forceinline__ int32_t expert() const { return shared.expert; }
  __device__ __forceinline__ int32_t m0() const { return shared.m0; }
  __device__ __forceinline__ int32_t row_end() const { return shared.row_end; }

  __device__ __forceinline__ uint4* weights(int stage) const {
    return data + stage * ((Shared::weights(p.w_terms) + Shared::rows(p.x_terms)) / 16);
  }
  // Sets 0 and 1: of steps that are even and odd; p.even: of parts, but for codes of block scales.
  __device__ __forceinline__ WideScales* scales(int set) const {
    const int at = p.stages * ((Shared::weights(p.w_terms) + Shared::rows(p.x_terms)) / 16);
    return reinterpret_cast<WideScales*>(data + at) + set * p.slots;
  }
  __device__ __forceinline__ uint32_t* windows() const { return reinterpret_cast<uint32_t*>(scales(2)); }
  __device__ __forceinline__ uint4* rows(int stage) const { return weights(stage) + Shared::weights(p.w_terms) / 16; }

  __device__ __forceinline__ void fill(const Step& step, int32_t s, int stage) {
    const int thread = this_thread();
    if constexpr (kBits > 0) {
      copy_weights<kBits>(static_cast<const uint8_t*>(p.w.low.codes.data) + expert() * p.w_step, p.n, p.k, n0 / 16,
                          Wide::kRowsW / 16, s, weights(stage), thread, Wide::kThreads);
    } else if (p.code_windows) {
      bring_rows_of_windows<E, Wide::kThreads>(p, shared.tables, expert(), n0, p.even ? nullptr : &step, s * kStepSlots,
                                               windows(), weights(stage));
    } else {
      bring_rows<E, Wide::kThreads>(p, shared.tables, true, expert(), n0, Wide::kRowsW, p.n, p.even ? nullptr : &step,
                                    s * kStepSlots, weights(stage), windows());
    }
    if (p.x_async) {
      copy_rows<E>(p.x, p.k, m0(), Wide::kRowsX, row_end(), s, rows(stage), thread, Wide::kThreads);
    } else {
      bring_rows<E, Wide::kThreads>(p, shared.tables, false, 0, m0(), Wide::kRowsX, row_end(), p.even ? nullptr : &step,
                                    s * kStepSlots, rows(stage));
    }
  }

  __device__ __forceinline__ bool cuts_units() const { return !E::kInteger || shares_k(p); }

  // Whether the stripe has step s, p.even.
  __device__ __forceinline__ bool exists(int32_t s) const { return s * kStepSlots < end; }

  // Brings the windows up to the values of column c, those of a step that will be multiplied `stages` steps from now.
  __device__ __forceinline__ void bring_windows(int32_t c) {
    if (c < brought) return;
    brought = INT32_MAX;
    bring<Wide::kRowsW>(p.w.scale_window, p.w.scale.data, expert() * p.w_scale_step, c, n0, p.n, windows());
    bring<Wide::kRowsW>(p.w.zero_window, p.w.zero.data, expert() * p.w_zero_step, c, n0, p.n,
                        WideWindows::w_zeros(p, windows()));
    bring<Wide::kRowsX>(p.x.scale_window, p.x.scale.data, 0, c, m0(), row_end(), WideWindows::x_scales(p, windows()));
    bring<Wide::kRowsX>(p.x.zero_window, p.x.zero.data, 0, c, m0(), row_end(), WideWindows::x_zeros(p, windows()));
    brought_at = c;
  }
  // Those behind the one of column brought_at, which is as good as a count of each kind and leaves more registers.
  template <int kRows>
  __device__ __forceinline__ void bring(const ValueWindow& window, const void* values, int64_t step, int32_t c,
                                        int32_t row0, int32_t end, uint32_t* to) {
    if (window.ring == 0) return;
    int32_t index = brought_at < 0 ? begin / window.span : brought_at / window.span + 1;
#pragma unroll 1
    for (; index <= c / window.span; ++index) {
      window.copy<kRows, Wide::kThreads>(values, step, index, row0, end, to, this_thread());
    }
    brought = static_cast<int32_t>(min(int64_t{brought}, int64_t{index} * window.span));
  }
  // Brings the windows of codes up to column c, of a step that becomes rows in the next turn; kBits == 0. p.even: c is
  // the first column of a step, and a window is four of them.
  __device__ __forceinline__ void bring_codes(int32_t c) {
    if constexpr (kBits == 0) {
      constexpr int kColumns = CodeWindows<Wide::kRowsW>::kColumns;
      if (!p.code_windows || c <= codes_at) return;
      int32_t index = codes_at < 0 ? begin / kColumns : codes_at / kColumns + 1;
      codes_at = c;
      int source = 0;
      if (p.w.high_groups != nullptr) {
        const Operand::Column at = p.w.column_of(c);
        c = at.column, source = at.source;
      }
      if (p.even) index = (c + kColumns - 1) / kColumns;
#pragma unroll 1
      for (; index <= c / kColumns; ++index) {
        CodeWindows<Wide::kRowsW>::template copy<Wide::kThreads>(p.w, expert() * p.w_step, source, index, n0, p.n,
                                                                 WideWindows::codes(p, windows()), this_thread());
      }
    }
  }
  // The column whose scales are stored after step s, for the step behind it; -1: those that are there serve. Then
  // `left` columns of the part are left. `fills`: s is a step before the first.
  __device__ __forceinline__ int32_t first_scales(const Step& next, int32_t s, int32_t left, bool fills) const {
    if (!p.even) return next.slot_column[0];
    bool needed = left <= 0;
    if constexpr (E::kBlocks > 0) needed = fills || p.w.scale_window.ring == 0 || p.x.scale_window.ring == 0;
    return needed && exists(s + 1) ? (s + 1) * kStepSlots : -1;
  }

  // A thread has one row of w, and one of x where it is below 64. The first scales of a step, mostly its only ones, go
  // through registers, so that loads of those that have no windows are under way while a step is multiplied.
  struct Scales {
    float w, x;
    int32_t w_int, x_int;  // w_int: of zero points that are floats the bits
  };
  __device__ __forceinline__ bool has_float_zeros() const { return !E::kInteger || p.w.zero_is_float; }
  __device__ __forceinline__ bool has_x_values() const {
    return static_cast<int>(threadIdx.x) < Wide::kRowsX && (p.x_scale_joins || p.x_sums || p.w_sums);
  }
  // Codes of block scales of a step.
  static constexpr int kStepCodes = kStepSlots / kMultiplied<E> * E::kBlocks;
  __device__ __forceinline__ void scales_load(int32_t c) {
    if (c < 0) return;
    const int thread = this_thread();
    const int32_t r = min(n0 + thread, p.n - 1), m = min(m0() + thread, row_end() - 1);
    if constexpr (E::kBlocks > 0) {
      loaded.w = p.w.scale_of_codes(r, expert() * p.w_second_step);
      if (p.w.scale_window.ring == 0)
        loaded.w_int = static_cast<int32_t>(p.w.scale_codes(r, c, kStepCodes, expert() * p.w_scale_step));
      if (thread < Wide::kRowsX) {
        loaded.x = p.x.scale_of_codes(m);
        if (p.x.scale_window.ring == 0) loaded.x_int = static_cast<int32_t>(p.x.scale_codes(m, c, kStepCodes));
      }
      return;
    }
    if (p.w.scale_window.ring != 0) {
      const uint32_t stored = stored_at<Wide::kRowsW>(p.w.scale_window, p.w.scale, windows(), c);
      loaded.w = p.w.scale_of(stored, r, c, expert() * p.w_second_step);
    } else {
      loaded.w = p.w.scale_from(r, c, expert() * p.w_scale_step, expert() * p.w_second_step);
    }
    if (p.w.has_zero) {
      if (p.w.zero_window.ring != 0) {
        const uint32_t stored =
            stored_at<Wide::kRowsW>(p.w.zero_window, p.w.zero, WideWindows::w_zeros(p, windows()), c);
        loaded.w_int = has_float_zeros() ? __float_as_int(p.w.zero_of(stored)) : p.w.integer_zero_of(stored);
      } else {
        loaded.w_int = has_float_zeros() ? __float_as_int(p.w.zero_at(r, c, expert() * p.w_zero_step))
                                         : p.w.integer_zero_at(r, c, expert() * p.w_zero_step);
      }
    }
    if (has_x_values()) {
      if (p.x_scale_joins && p.x.scale_window.ring != 0) {
        const uint32_t stored =
            stored_at<Wide::kRowsX>(p.x.scale_window, p.x.scale, WideWindows::x_scales(p, windows()), c);
        loaded.x = p.x.scale_of(stored, m, c, 0);
      } else if (p.x_scale_joins) {
        loaded.x = p.x.scale_from(m, c);
      }
      if (E::kInteger && p.x.zero_window.ring != 0) {
        loaded.x_int = p.x.integer_zero_of(
            stored_at<Wide::kRowsX>(p.x.zero_window, p.x.zero, WideWindows::x_zeros(p, windows()), c));
      } else if (E::kInteger) {
        loaded.x_int = p.x.integer_zero_at(m, c);
      }
    }
  }
  // What the thread's row has at column c, in the low bits.
  template <int kRows>
  static __device__ __forceinline__ uint32_t stored_at(const ValueWindow& window, const DeviceValues& values,
                                                       const uint32_t* from, int32_t c) {
    const int32_t j = values.block_cols(c);
    return window.words<kRows>(from, j)[this_thread()] >> window.shift(j);
  }
  // Those of the step behind s.
  __device__ __forceinline__ void scales_store(const Step& next, int32_t c, int32_t s, bool fills) {
    if (c < 0) return;
    WideScales* to = scales(p.even && E::kBlocks == 0 ? set : (s + 1) & 1);
    const int thread = this_thread();
    if constexpr (E::kBlocks > 0) {
      to->w_int[thread] = loaded.w_int;
      if (thread < Wide::kRowsX) to->x_int[thread] = loaded.x_int;
      if (!fills) return;
      to->w[thread] = loaded.w;
      if (thread < Wide::kRowsX) to->x[thread] = loaded.x;
      return;
    }
    const float w_unit = E::kInteger ? power_of_two(-p.w.bytes.shift) : 1.0f;
    const float x_unit = E::kInteger ? power_of_two(-p.x.bytes.shift) : 1.0f;
    const bool far = (kFarZeros && p.far_zeros) || leaves_parts(p);  // their join shifts in 64 bits
#pragma unroll 1
    for (int i = 0;; ++i, ++to) {
      to->w[thread] = loaded.w * w_unit;
      if (p.w.has_zero) {
        if (has_float_zeros()) {
          const float up = E::kInteger ? power_of_two(p.w.bytes.shift) : 1.0f;
          to->w_zero[thread] = __int_as_float(loaded.w_int) * up;
        } else {
          to->w_int[thread] = far ? loaded.w_int : loaded.w_int * (1 << p.w.bytes.shift);
        }
      }
      if (has_x_values()) {
        to->x[thread] = loaded.x * x_unit;
        if (E::kInteger) to->x_int[thread] = far ? loaded.x_int : loaded.x_int * (1 << p.x.bytes.shift);
      }
      if (p.even || i == 3 || next.slot_column[i + 1] < 0) break;
      scales_load(next.slot_column[i + 1]);
    }
  }
  // Codes of block scales of a step: word [row] of `w` and `x`, from bit `shift` on.
  struct BlockCodes {
    const uint32_t* w;
    const uint32_t* x;
    int w_shift, x_shift;
  };
  __device__ __forceinline__ BlockCodes block_codes(int32_t s) const {
    const int32_t j = s * kStepCodes;
    const WideScales* own = scales(s & 1);
    BlockCodes codes{reinterpret_cast<const uint32_t*>(own->w_int), reinterpret_cast<const uint32_t*>(own->x_int), 0,
                     0};
    if (p.w.scale_window.ring != 0) {
      codes.w = p.w.scale_window.words<Wide::kRowsW>(windows(), j);
      codes.w_shift = p.w.scale_window.shift(j);
    }
    if (p.x.scale_window.ring != 0) {
      codes.x = p.x.scale_window.words<Wide::kRowsX>(WideWindows::x_scales(p, windows()), j);
      codes.x_shift = p.x.scale_window.shift(j);
    }
    return codes;
  }

  __device__ __forceinline__ void clear_sums() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int q = 0; q < 8; ++q) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][q][e] = first_sum();
      }
    }
  }
  // Small integer sums count from here: as a float, where their unit is 2^-lift, it is 1.5 * 2^(23 - lift), so that a
  // subtraction converts them.
  static constexpr int kLifted = kLift<E, kBits>;
  static constexpr int32_t kMagic = 0x4b400000 - (kLifted << 23);
  __device__ __forceinline__ Sum first_sum() const {
    if constexpr (E::kInteger) return p.small_sums ? kMagic : 0;
    return Sum(0);
  }

  using Words = uint32_t[2][kBits > 0 ? kBits : 1];

  // Float zero points of the rows of a lane, which are subtracted from weights in registers.
  using Zeros = float[2][2];
  __device__ __forceinline__ void load_zeros(const WideScales& values, int lane, int warp, Zeros& zeros) const {
    if constexpr (!E::kInteger && kBits > 0) {
      if (!p.w.has_zero) return;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int h = 0; h < 2; ++h) zeros[i][h] = values.w_zero[32 * warp + 16 * i + 8 * h + lane / 4];
      }
    }
  }

  // Multiplies the piece of `chunk` columns from slot `piece` * chunk on. Its weights stand at `group` of the words.
  // kSums: sums of bytes are taken too, and x may be unsigned; of E4M3 block scales: they may be negative. kEven: there
  // is one term.
  template <bool kSums, bool kEven>
  __device__ __forceinline__ void multiply(const Words& words, int group, int chunk, int piece, int length,
                                           const Zeros& zeros, const BlockCodes& codes, int stage) {
    const int lane = this_lane(), warp = this_warp();
    const uint32_t flip = kSums && p.x_async && p.x.bytes.offset != 0 ? 0x80808080u : 0u;
#pragma unroll 1
    for (int tw = 0; tw < (kEven ? 1 : p.w_terms); ++tw) {
      uint32_t a[2][4];
      if constexpr (kBits > 0) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          weight_fragment<E, kBits>(p, words[i], group, chunk >= 32, zeros[i], a[i]);
        }
      } else {  // one after the other: in a loop that is left to itself `a` lies in memory
        const uint4* w = weights(stage) + tw * Wide::kRowsW * 8;
        row_fragment<E>(chunk, w, 32 * warp, piece, lane, a[0]);
        row_fragment<E>(chunk, w, 32 * warp + 16, piece, lane, a[1]);
      }
      if constexpr (kSums && E::kInteger) add_weight_sums(a, length, lane % 4);
      if constexpr (kSums && E::kBlocks == 4) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int row = 32 * warp + 16 * i + lane / 4 + j % 2 * 8;
            a[i][j] ^= block_sign(codes.w[row] >> codes.w_shift, j / 2, lane % 4);
          }
        }
      }
#pragma unroll 1
      for (int tx = 0; tx < (kEven ? 1 : min(p.x_terms, kMaxTerms - tw)); ++tx) {
        const uint4* x = rows(stage) + tx * Wide::kRowsX * 8;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          uint32_t b[2][2];
          x_fragments<E, (kBits > 0)>(chunk, x, 16 * q, piece, lane, length, flip, b);
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            if constexpr (kSums && E::kBlocks == 4) {
              const uint32_t scales = codes.x[16 * q + 8 * h + lane / 4] >> codes.x_shift;
              b[h][0] ^= block_sign(scales, 0, lane % 4);
              b[h][1] ^= block_sign(scales, 1, lane % 4);
            }
            if (kSums && E::kInteger && q == warp) {  // a warp adds up 16 rows of x
              x_sums[h] = __dp4a(static_cast<int>(b[h][0]), 0x01010101, x_sums[h]);
              x_sums[h] = __dp4a(static_cast<int>(b[h][1]), 0x01010101, x_sums[h]);
            }
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              if constexpr (E::kBlocks > 0) {
                // lanes t = 0 and 1 give the scales of rows g and g + 8 of w, lane 0 those of row g of x
                const int row = 32 * warp + 16 * i + lane / 4 + lane % 2 * 8, col = 16 * q + 8 * h + lane / 4;
                E::multiply(sum[i][2 * q + h], a[i], b[h], codes.w[row] >> (codes.w_shift + 8 * piece),
                            codes.x[col] >> (codes.x_shift + 8 * piece));
              } else {
                E::multiply(sum[i][2 * q + h], a[i], b[h]);
              }
            }
          }
        }
      }
    }
  }

  __device__ __forceinline__ void compute(const Step& step, int32_t s, int stage, int32_t left) {
    const int lane = this_lane(), warp = this_warp();
    const WideScales* values = scales(E::kBlocks > 0 ? 0 : p.even ? set : s & 1);
    const BlockCodes codes = E::kBlocks > 0 ? block_codes(s) : BlockCodes{};
    Zeros zeros = {};
    Words words;
    if constexpr (kBits > 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_words<kBits>(reinterpret_cast<const uint32_t*>(weights(stage)) + (2 * warp + i) * 32 * kBits, lane,
                          words[i]);
      }
    }
    const bool sums = E::kInteger ? p.w_sums || p.x_sums : E::kBlocks == 4 && has_signs(codes, lane, warp);
    int piece = 0;
#pragma unroll 1
    for (bool over = false; !over;) {
      bool joins;
      int32_t joined;
      const WideScales* of = values;
      if (kEvenOnly<E> || p.even) {
        const int32_t length = min(kStepSlots, p.k - s * kStepSlots);
        load_zeros(*values, lane, warp, zeros);
        if (sums) {
          if constexpr ((E::kInteger && !E::kNibbles) || E::kBlocks == 4)
            multiply_step<true>(words, length, zeros, codes, stage);
        } else {
          multiply_step<false>(words, length, zeros, codes, stage);
        }
        joins = left <= 0 || (s + 1) * kStepSlots >= end;
        joined = p.part - left - kStepSlots + length;
        set ^= joins;
        over = true;
      } else {
        const Piece at = step.pieces[piece];
        if (at.length == 0) break;
        of = values + at.slot;
        load_zeros(*of, lane, warp, zeros);
        multiply<E::kInteger, false>(words, 0, p.chunk, piece, at.length, zeros, codes, stage);
        if constexpr (kBits > 0) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            advance_words<kBits>(words[i]);
            if (p.chunk == 32) advance_words<kBits>(words[i]);
          }
        }
        joins = at.joins != 0, joined = at.joined;
        over = ++piece == kStepSlots / p.chunk;
      }
      if (!joins) continue;
      if (leaves_parts(p)) {
        const int32_t to = (s + 1) * kStepSlots;  // p.even: behind the part
        const bool closes = kEvenOnly<E> || p.even ? to >= p.k || (p.segment != 0 && to % p.segment == 0)
                                                   : step.pieces[piece - 1].segment != 0;
        leave_part(joined, closes, *of, sums);
        continue;
      }
      if constexpr (kFarZeros) {
        if (p.far_zeros) {
          join_far(joined, *of, lane, warp);
          continue;
        }
      }
      const bool corrects = E::kInteger && (sums || p.raw || p.w.bytes.factor * p.x.bytes.factor != 1);
      if constexpr (E::kInteger) {
        if (corrects) correct(joined, *of, lane, warp);
      }
      if (E::kInteger && p.raw) {
        join_raw();
      } else if (E::kInteger && p.small_sums && !corrects) {
        if constexpr (E::kInteger) join<true>(*of, lane, warp, 1.0f);
      } else {
        join<false>(*of, lane, warp, corrects ? 1.0f : power_of_two(-kLifted));
      }
      if constexpr (E::kInteger) {
        if (p.w.zero_is_float) join_float_zeros(*of, lane, warp);
        if (sums) __syncthreads();  // the sums of x have been read
      }
    }
  }
  // Whether a scale that the warp needs is negative, which is as good as never.
  static __device__ __forceinline__ bool has_signs(const BlockCodes& codes, int lane, int warp) {
    const uint32_t w = codes.w[32 * warp + lane], x = codes.x[lane] | codes.x[32 + lane];
    return __any_sync(0xffffffffu, ((w | x) & 0x80808080u) != 0);
  }

  template <bool kSums>
  __device__ __forceinline__ void multiply_step(const Words& words, int32_t length, const Zeros& zeros,
                                                const BlockCodes& codes, int stage) {
    constexpr int kChunk = kMultiplied<E>, kPieces = kStepSlots / kChunk;
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      multiply<kSums, true>(words, j * kChunk / 16, kChunk, j, length - kChunk * j, zeros, codes, stage);
    }
  }

  __device__ __forceinline__ void add_weight_sums(const uint32_t (&a)[2][4], int length, int t) {
    const int low = static_cast<int>(ones(length - 4 * t)), high = static_cast<int>(ones(length - 16 - 4 * t));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        w_sums[i][h] = __dp4a(static_cast<int>(a[i][h]), low, w_sums[i][h]);
        w_sums[i][h] = __dp4a(static_cast<int>(a[i][2 + h]), high, w_sums[i][h]);
      }
    }
  }

  // `unit`: of the sums, where they are no small ones.
  template <bool kSmall>
  __device__ __forceinline__ void join(const WideScales& scales, int lane, int warp, float unit) {
    if (p.x_scale_joins) {
      join_scaled<kSmall, true>(scales, lane, warp, unit);
    } else {
      join_scaled<kSmall, false>(scales, lane, warp, unit);
    }
  }
  template <bool kSmall, bool kScaleOfX>
  __device__ __forceinline__ void join_scaled(const WideScales& scales, int lane, int warp, float unit) {
    const int g = lane / 4, t = lane % 4;
    float w[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) w[i][h] = scales.w[32 * warp + 16 * i + g + 8 * h];
    }
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      float2 x = make_float2(1.0f, 1.0f);
      if constexpr (kScaleOfX) x = reinterpret_cast<const float2*>(scales.x)[4 * q + t];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float scale = kScaleOfX ? w[i][e / 2] * (e % 2 ? x.y : x.x) : w[i][e / 2];
          float v;
          if constexpr (kSmall) {
            v = from_bits(static_cast<uint32_t>(sum[i][q][e])) - from_bits(kMagic);
          } else if constexpr (E::kInteger) {
            v = static_cast<float>(sum[i][q][e]) * unit;
          } else {
            v = sum[i][q][e];
          }
          result[i][q][e] = __fmaf_rn(v, scale, result[i][q][e]);
          sum[i][q][e] = kSmall ? static_cast<Sum>(kMagic) : first_sum();
        }
      }
    }
  }
  __device__ __forceinline__ void join_raw() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int q = 0; q < 8; ++q) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          result[i][q][e] = from_bits(to_bits(result[i][q][e]) + static_cast<uint32_t>(sum[i][q][e]));
          sum[i][q][e] = first_sum();
        }
      }
    }
  }

  // Zero points, offsets and factors: sums of products of bytes become those of values less zeros. A sum of a segment
  // is exact in int32 (plan_gemm sees to it), so everything is computed modulo 2^32. Then shared.x_sums are in use.
  __device__ __forceinline__ void correct(int32_t length, const WideScales& scales, int lane, int warp) {
    const int g = lane / 4, t = lane % 4;
    const bool sums = p.w_sums || p.x_sums;
    const int32_t fw = p.w.bytes.factor, fx = p.x.bytes.factor;
    if (sums) {  // over the four lanes of a row
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        x_sums[h] += __shfl_xor_sync(0xffffffffu, x_sums[h], 1);
        x_sums[h] += __shfl_xor_sync(0xffffffffu, x_sums[h], 2);
        const int row = 16 * warp + 8 * h + g;  // less its offset and zero, times -1
        if (t == 0) shared.x_sums[row] = length * (p.x.bytes.offset + scales.x_int[row]) - fx * x_sums[h];
        x_sums[h] = 0;
      }
      __syncthreads();  // all warps join together
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 32 * warp + 16 * i + 8 * h + g;
        int32_t ow = 0, w_sum = 0;
        if (sums) {
          w_sum = w_sums[i][h];
          w_sum += __shfl_xor_sync(0xffffffffu, w_sum, 1);
          w_sum += __shfl_xor_sync(0xffffffffu, w_sum, 2);
          w_sum = fw * (w_sum >> kLifted);
          ow = p.w.bytes.offset + (p.w.has_zero && !p.w.zero_is_float ? scales.w_int[row] : 0);
        }
        w_sums[i][h] = 0;
#pragma unroll
        for (int q = 0; q < 8; ++q) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            Sum& v = sum[i][q][2 * h + j];
            v = ((v - first_sum()) >> kLifted) * (fw * fx);
            if (sums) {
              const int col = 8 * q + 2 * t + j;
              v += shared.x_sums[col] * ow - (p.x.bytes.offset + scales.x_int[col]) * w_sum;
            }
          }
        }
      }
    }
  }
  // `correct`, `join` and the float zeros in one, in 64 bits.
  __device__ __forceinline__ void join_far(int32_t length, const WideScales& scales, int lane, int warp) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {  // over the four lanes of a row
      x_sums[h] += __shfl_xor_sync(0xffffffffu, x_sums[h], 1);
      x_sums[h] += __shfl_xor_sync(0xffffffffu, x_sums[h], 2);
      if (t == 0) shared.x_sums[16 * warp + 8 * h + g] = x_sums[h];
      x_sums[h] = 0;
    }
    __syncthreads();  // all warps join together
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 32 * warp + 16 * i + 8 * h + g;
        w_sums[i][h] += __shfl_xor_sync(0xffffffffu, w_sums[i][h], 1);
        w_sums[i][h] += __shfl_xor_sync(0xffffffffu, w_sums[i][h], 2);
        const bool whole = p.w.has_zero && !p.w.zero_is_float;
#pragma unroll
        for (int q = 0; q < 8; ++q) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int col = 8 * q + 2 * t + j;
            JoinValues v{};
            v.scale = scales.w[row] * (p.x_scale_joins ? scales.x[col] : 1.0f);
            v.w_float_zero = p.w.zero_is_float ? scales.w_zero[row] : 0.0f;
            v.w_zero = whole ? scales.w_int[row] : 0;
            v.x_zero = scales.x_int[col];
            v.w_sum = w_sums[i][h];
            v.x_sum = shared.x_sums[col];
            v.length = length;
            float& y = result[i][q][2 * h + j];
            y = join_corrected(p, sum[i][q][2 * h + j], v, y);
            sum[i][q][2 * h + j] = 0;
          }
        }
        w_sums[i][h] = 0;
      }
    }
    __syncthreads();  // the sums of x have been read
  }
  // The second term of a segment: sums of x times the float zeros of w.
  __device__ __forceinline__ void join_float_zeros(const WideScales& scales, int lane, int warp) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int q = 0; q < 8; ++q) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int col = 8 * q + 2 * t + e % 2;
        const float x_sum = static_cast<float>(-shared.x_sums[col]);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int row = 32 * warp + 16 * i + g + 8 * (e / 2);
          const float scale = scales.w[row] * (p.x_scale_joins ? scales.x[col] : 1.0f);
          result[i][q][e] = __fmaf_rn(x_sum, -(scale * scales.w_zero[row]), result[i][q][e]);
        }
      }
    }
  }

  // ---- stripes

  // The part that ends here.
  __device__ __forceinline__ void leave_part(int32_t length, bool closes, const WideScales& of, bool sums) {
    StripeRecord* to = record_behind(p, own_records(p), parts_left++);
    const int thread = this_thread();
    leave_values<E>(p, to, of, thread);
    if constexpr (E::kInteger) {
      if (thread == 0) to->length = length, to->closes = closes;
      if (sums) leave_sums(to, kLifted, thread, w_sums, x_sums);
    }
    leave_words(to, row_end() - m0(), thread, sum, [this](Sum v) {
      if constexpr (E::kInteger) {
        return static_cast<uint32_t>((v - first_sum()) >> kLifted);
      } else {
        return to_bits(v);
      }
    });
    clear_sums();
  }
  // The end of the stripe.
  __device__ __forceinline__ void leave() {
    if (!leaves_parts(p)) {
      leave_words(own_records(p), row_end() - m0(), this_thread(), result, [](float v) { return to_bits(v); });
    } else if (threadIdx.x == 0) {
      p.counts[int64_t{blockIdx.x} * gridDim.y + blockIdx.y] = parts_left;
    }
  }

  // Through shared memory: neighbouring threads then write neighbouring columns of the output, and the rest of the
  // arithmetic stands once.
  __device__ __forceinline__ void write() {
    constexpr int kStride = Wide::kRowsW + 4;  // four rows of x fall into different banks
    const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
    auto* tile = reinterpret_cast<float*>(data);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int q = 0; q < 8; ++q) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          tile[(8 * q + lane % 4 * 2 + e % 2) * kStride + 32 * warp + 16 * i + lane / 4 + 8 * (e / 2)] =
              result[i][q][e];
        }
      }
    }
    __syncthreads();
    const int32_t n = n0 + static_cast<int32_t>(threadIdx.x);
    if (n >= p.n) return;
    const float bias = bias_at(p, n, expert());
#pragma unroll 1
    for (int row = 0; row < Wide::kRowsX && m0() + row < row_end(); ++row) {
      finish(p, m0() + row, n, shared.last_scale[row], bias, tile[row * kStride + static_cast<int>(threadIdx.x)]);
    }
  }

  const GemmParams& p;
  Shared& shared;
  uint4* data;
  int32_t n0;
  int32_t begin = 0, end;  // columns
  int32_t parts_left = 0;
  int set = 0;  // of scales of the part, p.even
  // Columns whose windows are there or on the way: of w's scales and zeros, x's scales and zeros, the least of these;
  // of w's codes.
  int32_t brought_at = -1, brought = 0, codes_at = -1;
  Scales loaded = {};
  Sum sum[2][8][4];
  float result[2][8][4] = {};
  int32_t w_sums[2][2] = {}, x_sums[2] = {};
};

template <class E, int kBits>
__global__ void __launch_bounds__(Wide::kThreads, 2) gemm_wide(const __grid_constant__ GemmParams p) {
  if constexpr (IsNative<E>::value) {
    extern __shared__ __align__(128) uint8_t memory[];
    WideGemm<E, kBits>(p, reinterpret_cast<WideShared<E, kBits>*>(memory)).run();
  }
}

}  // namespace lowbit::cuda
