// Between the registers of a floating-point mma and the Product that numerics/ works on.
#pragma once

#include "emu/exec/mma.h"
#include "emu/numerics/product_sum.h"

namespace emu {

void load_accumulator(const Warp& w, const Unit* units, const MmaPlan& plan, Product& p);
void store_accumulator(const Warp& w, const Unit* units, const MmaPlan& plan, const Product& p);
// [n][k] -> [k][n]
void by_rows_of_k(const double* columns, int k, double* b);
// The sum under the model and for the architecture of the configuration.
void multiply_add(Product& p, MmaOperand operand);

}  // namespace emu
