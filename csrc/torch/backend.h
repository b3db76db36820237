// What stands behind the bindings. Every binding file is compiled once for each library:
//
//   _ops.so       tensors on the CPU: backend_cpu.cpp, the kernel table of cpu/dispatch.h
//   _cuda.so      tensors on CUDA: backend_cuda.cpp over device/cuda.h
//   _emulated.so  the same over device/emulated.h: CPU tensors through the CUDA launchers, as ops of the namespace
//                 lowbit_emu, on whatever libcudart.so.13 is loaded (the emulator: tests; not in the wheel)
#pragma once

#include <torch/csrc/stable/library.h>

#include <memory>
#include <type_traits>
#include <utility>

#include "cpu/dispatch.h"
#include "cpu/gemm.h"
#include "torch/args.h"

#if defined(LOWBIT_BACKEND_EMULATED)
#define LOWBIT_NAMESPACE lowbit_emu
#define LOWBIT_KEY CPU
#elif defined(LOWBIT_BACKEND_CUDA)
#define LOWBIT_NAMESPACE lowbit
#define LOWBIT_KEY CUDA
#else
#define LOWBIT_NAMESPACE lowbit
#define LOWBIT_KEY CPU
#endif
#define LOWBIT_EXPAND(macro, ...) macro(__VA_ARGS__)
#define LOWBIT_LIBRARY(m) LOWBIT_EXPAND(STABLE_TORCH_LIBRARY, LOWBIT_NAMESPACE, m)
#define LOWBIT_LIBRARY_IMPL(m) LOWBIT_EXPAND(STABLE_TORCH_LIBRARY_IMPL, LOWBIT_NAMESPACE, LOWBIT_KEY, m)
// TORCH_BOX of a function that runs within a Scope.
#define LOWBIT_BOX(function) TORCH_BOX((&::lowbit::bind::backend::Scoped<function>::call))

namespace lowbit::bind::backend {

// One call of an op: the device is that of its tensors, and what they hold is visible to it.
class Scope {
 public:
  Scope();
  ~Scope();
  Scope(const Scope&) = delete;
  // Chooses the device by the first tensor.
  void enter(const Tensor& t);
  void enter(const OptTensor& t) {
    if (t) enter(*t);
  }
  template <class T>
  void enter(const T&) {}

 private:
  bool entered_ = false;
};

template <auto kFunction>
struct Scoped;
template <class R, class... Args, R (*kFunction)(Args...)>
struct Scoped<kFunction> {
  static R call(Args... args) {
    Scope scope;
    (scope.enter(args), ...);
    return kFunction(std::forward<Args>(args)...);
  }
};

// `t`, which torch has just made of an argument, for the kernels to read.
const Tensor& visible(const Tensor& t);
// The same values where the host can read them; waits for the device.
Tensor on_host(const Tensor& t);

// Raises what kernels of earlier calls found in values (torch/device/findings.h); on the CPU nothing is found late. Ops
// that look at values call it first.
void raise_earlier_findings();

bool is_here(const Tensor& t);  // on the device of this library
const char* device_name();      // "the CPU", "CUDA"
Tensor empty_strided(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int32_t dtype);

// CUDA kernels read (seed, offset) where they lie, so that a captured graph draws anew: true, and the next launches of
// this call do so.
bool takes_seed(const Tensor& seed);

// Whether values may be read to check them; on CUDA that would be a wait in every call.
inline constexpr bool kReadsValues =
#if defined(LOWBIT_BACKEND_CUDA)
    false;
#else
    true;
#endif

// What prepacked codes begin at a multiple of, in bytes: CUDA kernels copy so many at a time.
inline constexpr uintptr_t kTileAlignment =
#if defined(LOWBIT_BACKEND_CUDA)
    16;
#else
    1;
#endif

// The kernels, each with the arguments that the CPU's take.
const cpu::Kernels& kernels();
Status run(cpu::Family family, const GemmArgs& args);
Status dequant_gemm_input_grad(const GemmArgs& args);

// Many products: on the CPU one GemmArgs an expert; on CUDA all rows at once.
inline constexpr bool kExpertsAtOnce =
#if defined(LOWBIT_BACKEND_CUDA)
    true;
#else
    false;
#endif
struct ExpertSteps {  // bytes from an expert to the next
  int64_t codes = 0, scale = 0, second = 0, zero = 0, bias = 0;
};
Status grouped(cpu::Family family, const GemmArgs* args, int64_t count);
Status grouped_input_grad(const GemmArgs* args, int64_t count);
Status grouped_at_once(const GemmArgs& args, const ExpertSteps& steps, const Tensor& offs);
Status grouped_input_grad_at_once(const GemmArgs& args, const ExpertSteps& steps, const Tensor& offs);

// Activations quantized for one call.
struct QuantizedRows {
  QMatrix matrix;
  BlockValues second;
  std::shared_ptr<void> hold;
};
Status quantize_rows(const char* op, const Spec& spec, const Matrix& x, const BlockValues& scale,
                     const BlockValues& zero, QuantizedRows* out);

}  // namespace lowbit::bind::backend
