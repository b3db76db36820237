// mma.sync of f16, bf16, tf32, FP8, FP6 and FP4 without block scales, and of f64.
#include <cfenv>
#include <cmath>
#include <cstring>

#include "emu/config.h"
#include "emu/exec/mma.h"
#include "emu/exec/mma_layout.h"
#include "emu/exec/mma_operands.h"

namespace emu {

void load_accumulator(const Warp& w, const Unit* units, const MmaPlan& plan, Product& p) {
  alignas(64) uint32_t words[16 * kN];
  if (plan.half) {
    // c_half_cell: a register is 8 rows of 8 halves already.
    for (int r = 0; r < plan.registers_c; ++r) std::memcpy(words + 32 * r, w.u32(units[r]), 128);
  } else {
    gather_c(w, units, plan.m, words);
  }
  p.spread_c = decode(element_of(plan.half ? ptx::Type::kF16 : ptx::Type::kF32, false), words, plan.m * kN, p.c);
}

void store_accumulator(const Warp& w, const Unit* units, const MmaPlan& plan, const Product& p) {
  if (!plan.half) return scatter_d(w, units, plan.m, p.result);
  for (int r = 0; r < plan.registers_c; ++r) {
    uint32_t* d = w.u32(units[r]);
    for (int lane = 0; lane < kLanes; ++lane) {
      d[lane] = p.result[64 * r + 2 * lane] | p.result[64 * r + 2 * lane + 1] << 16;
    }
  }
}

void by_rows_of_k(const double* columns, int k, double* b) {
  for (int x = 0; x < k; ++x) {
    for (int j = 0; j < kN; ++j) b[x * kN + j] = columns[j * k + x];
  }
}

void multiply_add(Product& p, MmaOperand operand) {
  if (config().mma == MmaModel::kExact) {
    exact_product_sum(p);
  } else {
    aligned_product_sum(p, tensor_core(arch_number(config().arch), operand), config().seed);
  }
}

void run_mma_float(Warp& w, const Instr& i, Mask active) {
  if (!whole_warp(w, active)) return;
  const MmaPlan& plan = plan_of(i);
  Product p;
  p.m = plan.m, p.k = plan.k, p.half = plan.half;
  alignas(64) uint8_t rows[16 * kMaxK];
  alignas(64) double columns[kN * kMaxK];
  gather_a(w, i.s, plan, rows);
  p.spread_a = decode(*plan.a, rows, p.m * p.k, p.a);
  gather_b(w, i.s + plan.registers_a, plan, rows);
  p.spread_b = decode(*plan.b, rows, kN * p.k, columns);
  by_rows_of_k(columns, p.k, p.b);
  load_accumulator(w, i.s + plan.registers_a + plan.registers_b, plan, p);
  for (int r = 0; r < p.m; ++r) p.least_a[r] = plan.a->min_exponent();
  for (int j = 0; j < kN; ++j) p.least_b[j] = plan.b->min_exponent();
  multiply_add(p, plan.operand);
  store_accumulator(w, i.d, plan, p);
}

// A chain of fused multiply-adds in ascending k, as Xie et al. (arXiv:2511.10909) found it on the hardware: the same
// under both models.
void run_mma_double(Warp& w, const Instr& i, Mask active) {
  if (!whole_warp(w, active)) return;
  const MmaPlan& p = plan_of(i);
  double a[16][16], b[16][kN], c[16][kN];
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < p.registers_a; ++r) {
      const layout::Cell at = layout::a_cell(p.m, 1, lane, r, 0);
      a[at.row][at.col] = w.f64(i.s[r])[lane];
    }
    for (int r = 0; r < p.registers_b; ++r) {
      const layout::Cell at = layout::b_cell(1, lane, r, 0);
      b[at.row][at.col] = w.f64(i.s[p.registers_a + r])[lane];
    }
    for (int r = 0; r < p.registers_c; ++r) {
      const layout::Cell at = layout::c_cell(lane, r);
      c[at.row][at.col] = w.f64(i.s[p.registers_a + p.registers_b + r])[lane];
    }
  }
  const int rounding = std::fegetround();
  std::fesetround(p.rounding);
  for (int row = 0; row < p.m; ++row) {
    for (int col = 0; col < kN; ++col) {
      double sum = c[row][col];
      for (int x = 0; x < p.k; ++x) sum = std::fma(a[row][x], b[x][col], sum);
      c[row][col] = sum;
    }
  }
  std::fesetround(rounding);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < p.registers_c; ++r) {
      const layout::Cell at = layout::c_cell(lane, r);
      w.f64(i.d[r])[lane] = c[at.row][at.col];
    }
  }
}

}  // namespace emu
