// mma.sync with block scales: kind::mxf8f6f4 (one ue8m0 for 32 elements), kind::mxf4 and kind::mxf4nvf4 (ue8m0 for 32
// or ue4m3 for 16). A row of A and a column of B have one scale for each block of k, in bytes of one lane's register:
// which lane of the four and which byte, two selector operands say.
#include "emu/exec/mma.h"
#include "emu/exec/mma_layout.h"
#include "emu/exec/mma_operands.h"

namespace emu {
namespace {

struct Selector {
  int byte, thread;
};

// Sources from `units`: the register of scales, the byte id, the thread id.
bool selector_of(Warp& w, const Unit* units, int threads, int blocks, const char* operand, Selector* s) {
  s->byte = static_cast<int>(w.u32(units[1])[0]);
  s->thread = static_cast<int>(w.u32(units[2])[0]);
  const bool byte_fits = s->byte >= 0 && s->byte < 4 && s->byte % blocks == 0;
  if (byte_fits && s->thread >= 0 && s->thread < threads) return true;
  w.block->launch->report(Finding::kBadArgument, w, 0,
                          std::string("mma: byte id and thread id of the scales of ") + operand +
                              " must lie in the register and the group, got " + std::to_string(s->byte) + " and " +
                              std::to_string(s->thread));
  return false;
}

double decode_scale(const MmaPlan& plan, uint32_t word, int byte) {
  const uint8_t bits = static_cast<uint8_t>(word >> (8 * byte));
  return plan.scale_ue4m3 ? decode_ue4m3(bits) : decode_ue8m0(bits);
}

// Multiplies the scales in, which is exact in double, and widens the spread by theirs. `stride_k` and `stride_row` lead
// through x.
void apply(double* x, int rows, int k, int stride_row, int stride_k, int blocks, const double (&scale)[4][16],
           Spread* spread) {
  Spread scales;
  for (int block = 0; block < blocks; ++block) {
    for (int r = 0; r < rows; ++r) {
      const double s = scale[block][r];
      for (int at = block * (k / blocks); at < (block + 1) * (k / blocks); ++at) x[r * stride_row + at * stride_k] *= s;
      if (s != s) {
        spread->special = true;
      } else if (s != 0.0) {
        const int e = static_cast<int>(__builtin_ilogb(s));
        scales.high = e > scales.high ? e : scales.high;
        scales.low = e - 3 < scales.low ? e - 3 : scales.low;  // ue4m3 has three bits behind the first
      }
    }
  }
  if (spread->high == Spread::kNone) return;
  if (scales.high == Spread::kNone) {
    *spread = Spread{Spread::kNone, -Spread::kNone, spread->special};
    return;
  }
  spread->high += scales.high + 1;  // both significands may be near two
  spread->low += scales.low;
}

}  // namespace

void run_mma_scaled(Warp& w, const Instr& i, Mask active) {
  if (!whole_warp(w, active)) return;
  const MmaPlan& plan = plan_of(i);
  const int sources = plan.registers_a + plan.registers_b + plan.registers_c;
  Selector select_a, select_b;
  if (!selector_of(w, i.s + sources, 2, plan.scale_blocks, "A", &select_a) ||
      !selector_of(w, i.s + sources + 3, 4, plan.scale_blocks, "B", &select_b)) {
    return;
  }
  Product p;
  p.m = plan.m, p.k = plan.k, p.half = false;
  alignas(64) uint8_t rows[16 * kMaxK];
  alignas(64) double columns[kN * kMaxK];
  gather_a(w, i.s, plan, rows);
  p.spread_a = plan.packed_e2m1 ? decode_e2m1_pairs(rows, p.m * p.k, p.a) : decode(*plan.a, rows, p.m * p.k, p.a);
  gather_b(w, i.s + plan.registers_a, plan, rows);
  p.spread_b = plan.packed_e2m1 ? decode_e2m1_pairs(rows, kN * p.k, columns) : decode(*plan.b, rows, kN * p.k, columns);
  by_rows_of_k(columns, p.k, p.b);
  load_accumulator(w, i.s + plan.registers_a + plan.registers_b, plan, p);

  p.scale_blocks = plan.scale_blocks;
  double scale_a[4][16], scale_b[4][16];
  const uint32_t* words_a = w.u32(i.s[sources]);
  const uint32_t* words_b = w.u32(i.s[sources + 3]);
  // What an exponent below the least normal one counts as, in the scales and with them in the elements.
  const int least_scale = plan.scale_ue4m3 ? -6 : -127;
  for (int block = 0; block < plan.scale_blocks; ++block) {
    for (int r = 0; r < p.m; ++r) {
      scale_a[block][r] = decode_scale(plan, words_a[layout::scale_a_lane(r, select_a.thread)], select_a.byte + block);
      p.scale_a[block][r] = scale_a[block][r];
    }
    for (int j = 0; j < kN; ++j) {
      scale_b[block][j] = decode_scale(plan, words_b[layout::scale_b_lane(j, select_b.thread)], select_b.byte + block);
      p.scale_b[block][j] = scale_b[block][j];
    }
  }
  const auto least = [&](double scale, const Element* element) {
    if (plan.packed_e2m1) return least_scale;
    return element->min_exponent() + (scale == scale ? static_cast<int>(__builtin_ilogb(scale)) : 0);
  };
  for (int r = 0; r < p.m; ++r) p.least_a[r] = least(scale_a[0][r], plan.a);
  for (int j = 0; j < kN; ++j) p.least_b[j] = least(scale_b[0][j], plan.b);
  apply(p.a, p.m, p.k, p.k, 1, plan.scale_blocks, scale_a, &p.spread_a);
  apply(p.b, kN, p.k, 1, kN, plan.scale_blocks, scale_b, &p.spread_b);
  multiply_add(p, plan.operand);
  store_accumulator(w, i.d, plan, p);
}

}  // namespace emu
