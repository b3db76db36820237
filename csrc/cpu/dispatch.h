// Which kernels a CPU runs: one table, filled from ref/ and then overridden by the best ISA folder that this processor
// has. Chosen once at first use; LOWBIT_ISA forces a name of isa_list().
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "ref/dequant_gemm.h"
#include "ref/hadamard.h"
#include "ref/pack.h"
#include "ref/quantize.h"
#include "ref/stochastic_round.h"

namespace lowbit::cpu {

struct Kernels {
  const char* isa;
  decltype(&ref::pack) pack;
  decltype(&ref::unpack) unpack;
  decltype(&ref::pack_order) pack_order;
  decltype(&ref::unpack_order) unpack_order;
  decltype(&ref::prepack) prepack;
  decltype(&ref::unprepack) unprepack;
  decltype(&ref::truncate) truncate;
  decltype(&ref::truncate_scales) truncate_scales;
  decltype(&ref::truncate_zeros) truncate_zeros;
  decltype(&ref::quantize) quantize;
  decltype(&ref::dequantize) dequantize;
  decltype(&ref::stochastic_round) stochastic_round;
  decltype(&ref::stochastic_round_update) stochastic_round_update;
  decltype(&ref::hadamard) hadamard;
  Status (*bitplane_gemm)(const GemmArgs&, const Parallel&);
  Status (*dequant_gemm)(const GemmArgs&, const Parallel&);
  Status (*dequant_gemm_input_grad)(const GemmArgs&, const Parallel&);
  Status (*scaled_gemm)(const GemmArgs&, const Parallel&);
};

// The table of this process. Fails when LOWBIT_ISA names no ISA of this build and processor; lists those that it could.
LOWBIT_EXPORT Status kernels(const Kernels** out);

// Names for LOWBIT_ISA that this build and processor can run, best first ("avx512", ..., "ref").
LOWBIT_EXPORT std::vector<std::string> isa_list();

// For every op of the table: its name, and the ISAs of isa_list() whose kernel is their own and not the reference.
LOWBIT_EXPORT std::vector<std::pair<std::string, std::vector<std::string>>> own_kernels();

// Changes the table of a running process. For tests and benches: no op may be running.
LOWBIT_EXPORT Status force_isa(const char* name);

// Whether a bf16 dot is quicker than the two fused multiply-adds that give the same bits (denormals apart, which the
// dot takes for zeros). It is on AMD; on Intel it issues at a quarter of their rate. For tests: force_bf16_dot.
LOWBIT_EXPORT bool bf16_dot_is_fast();
LOWBIT_EXPORT void force_bf16_dot(bool use);

// The micro-kernel that ran last in this process, as "<family>:<isa>", and ":popcount" where it counts bit planes,
// ":scaled" where its operands hold the scales; tests ask it which code they tested.
LOWBIT_EXPORT const char* last_kernel();
void ran(const char* name);  // `name` must live for ever

}  // namespace lowbit::cpu
