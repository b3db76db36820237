#include "cpu/dispatch.h"

#include <atomic>
#include <cstdlib>

#include "cpu/simd/kernels.h"
#include "ref/bitplane_gemm.h"
#include "ref/scaled_gemm.h"

namespace lowbit::cpu {
namespace {

constexpr Kernels kReference = {
    "ref",
    ref::pack,
    ref::unpack,
    ref::pack_order,
    ref::unpack_order,
    ref::prepack,
    ref::unprepack,
    ref::truncate,
    ref::truncate_scales,
    ref::truncate_zeros,
    ref::quantize,
    ref::dequantize,
    ref::stochastic_round,
    ref::stochastic_round_update,
    ref::hadamard,
    ref::bitplane_gemm,
    ref::dequant_gemm,
    ref::dequant_gemm_input_grad,
    ref::scaled_gemm,
};

// One row an ISA, best first. `supported` asks the processor (and, through libgcc, the operating system's XCR0);
// `override` replaces entries of the reference table.
struct Isa {
  const char* name;
  bool (*supported)();
  void (*override)(Kernels*);
};

#ifdef LOWBIT_HAVE_AVX2
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi2");
}
#endif

#ifdef LOWBIT_HAVE_AVX512
bool has_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bitalg") &&
         __builtin_cpu_supports("gfni") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma");
}
#endif

constexpr Isa kIsas[] = {
#if defined(LOWBIT_HAVE_AMX) && defined(LOWBIT_HAVE_AVX512)
    {"amx", [] { return has_avx512() && amx::usable(); }, amx::override_kernels},
#endif
#ifdef LOWBIT_HAVE_AVX512
    {"avx512", has_avx512, avx512::override_kernels},
#endif
#if defined(LOWBIT_HAVE_AVXVNNI) && defined(LOWBIT_HAVE_AVX2)
    {"avxvnni", [] { return has_avx2() && __builtin_cpu_supports("avxvnni"); }, avxvnni::override_kernels},
#endif
#ifdef LOWBIT_HAVE_AVX2
    {"avx2", has_avx2, avx2::override_kernels},
#endif
    {"ref", [] { return true; }, [](Kernels*) {}},
};

std::atomic<int> bf16_dot{-1};  // not known yet

Kernels table_of(const Isa& isa) {
  Kernels k = kReference;
  k.isa = isa.name;
  isa.override(&k);
  return k;
}

struct Choice {
  Status status;
  Kernels kernels;
};

// The best ISA, or the one called `forced`.
Choice choose(const char* forced) {
  const bool any = forced == nullptr || *forced == '\0';
  for (const Isa& isa : kIsas) {
    if ((any || std::string(forced) == isa.name) && isa.supported()) return {Status(), table_of(isa)};
  }
  std::string names;
  for (const std::string& name : isa_list()) names += (names.empty() ? "" : ", ") + name;
  return {invalid("LOWBIT_ISA must be one of ", names, " on this machine, got \"", forced,
                  "\"; unset it to take the best one"),
          kReference};
}

Choice& choice() {
  static Choice c = choose(std::getenv("LOWBIT_ISA"));
  return c;
}

std::atomic<const char*> g_last{"none"};

}  // namespace

Status kernels(const Kernels** out) {
  const Choice& c = choice();
  *out = &c.kernels;
  return c.status;
}

Status force_isa(const char* name) {
  Choice c = choose(name);
  if (c.status.ok()) choice() = c;
  return c.status;
}

std::vector<std::string> isa_list() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) {
    if (isa.supported()) names.emplace_back(isa.name);
  }
  return names;
}

std::vector<std::pair<std::string, std::vector<std::string>>> own_kernels() {
  std::vector<std::pair<std::string, std::vector<std::string>>> ops;
  auto add = [&](const char* name, auto member) {
    std::vector<std::string> isas;
    for (const Isa& isa : kIsas) {
      if (isa.supported() && table_of(isa).*member != kReference.*member) isas.emplace_back(isa.name);
    }
    ops.emplace_back(name, isas);
  };
  add("pack", &Kernels::pack);
  add("unpack", &Kernels::unpack);
  add("prepack", &Kernels::prepack);
  add("unprepack", &Kernels::unprepack);
  add("truncate", &Kernels::truncate);
  add("quantize", &Kernels::quantize);
  add("dequantize", &Kernels::dequantize);
  add("stochastic_round", &Kernels::stochastic_round);
  add("stochastic_round_update", &Kernels::stochastic_round_update);
  add("hadamard", &Kernels::hadamard);
  add("bitplane_gemm", &Kernels::bitplane_gemm);
  add("dequant_gemm", &Kernels::dequant_gemm);
  add("dequant_gemm_input_grad", &Kernels::dequant_gemm_input_grad);
  add("scaled_gemm", &Kernels::scaled_gemm);
  return ops;
}

const char* last_kernel() { return g_last.load(std::memory_order_relaxed); }
void ran(const char* name) { g_last.store(name, std::memory_order_relaxed); }

bool bf16_dot_is_fast() {
  int fast = bf16_dot.load(std::memory_order_relaxed);
  if (fast < 0) {
    fast = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    fast = __builtin_cpu_is("intel") ? 0 : 1;
#endif
    bf16_dot.store(fast, std::memory_order_relaxed);
  }
  return fast == 1;
}

void force_bf16_dot(bool use) { bf16_dot.store(use ? 1 : 0, std::memory_order_relaxed); }

}  // namespace lowbit::cpu
