// What was built and what a device would run, for tests without a device.
#include <cstdio>
#include <string>

#include "cuda/bitplane_gemm.h"
#include "cuda/c_api/entry.h"
#include "cuda/gemm_call.h"

using namespace lowbit;

// Writes "80 89 90 120f".
extern "C" LOWBIT_EXPORT void lowbit_cuda_built(char* text, int64_t size) {
  int64_t at = 0;
  const cuda::BuiltArchs built = cuda::built_archs();
  if (size > 0) text[0] = 0;
  for (int i = 0; i < built.count && at < size; ++i) {
    const char suffix[] = {built.rows[i].suffix, 0};
    at += std::snprintf(text + at, static_cast<size_t>(size - at), i ? " %d%s" : "%d%s", built.rows[i].sm, suffix);
  }
}

// Writes what multiplies on the built architecture of that index: "int8 bfloat16 half int4 binary".
extern "C" LOWBIT_EXPORT void lowbit_cuda_engines(int index, char* text, int64_t size) {
  const cuda::BuiltArchs built = cuda::built_archs();
  if (size <= 0) return;
  text[0] = 0;
  if (index < 0 || index >= built.count) return;
  const cuda::Arch& code = built.rows[index];
  std::string names = cuda::gemm_engines(code);
  if (cuda::bitplane_engine(code.sm, 1, 1, 1) == cuda::BitplaneEngine::kBinary) names += " binary";
  text[names.copy(text, static_cast<size_t>(size - 1))] = 0;
}

// The sm whose code a device of compute capability `sm` runs, 0 for none; `*suffix` its 'a', 'f' or 0.
extern "C" LOWBIT_EXPORT int lowbit_cuda_select(int sm, char* suffix) {
  const cuda::Arch* a = cuda::select_arch(cuda::built_archs(), sm);
  *suffix = a ? a->suffix : 0;
  return a ? a->sm : 0;
}

// Whether the current device would be refused, with the sentence.
extern "C" LOWBIT_EXPORT int lowbit_cuda_device(const char* op, char* error, int64_t error_size) {
  cuda::Device device;
  return cuda::answer(cuda::current_device(op, &device), error, error_size);
}

// The refusal of a device of compute capability `sm`.
extern "C" LOWBIT_EXPORT int lowbit_cuda_refusal(const char* op, int sm, char* error, int64_t error_size) {
  cuda::Arch code;
  return cuda::answer(cuda::require_arch(op, sm, &code), error, error_size);
}
