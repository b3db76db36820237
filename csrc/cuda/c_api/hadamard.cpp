// hadamard over device pointers.
#include "cuda/hadamard.h"

#include "cuda/c_api/entry.h"

using namespace lowbit;

namespace {

struct CHadamard {
  cuda::CMatrix x, out;
  int64_t block;
  const float* sign;  // device
  int64_t sign_length;
  double scale;
  int64_t transpose;

  HadamardArgs args() const {
    HadamardArgs a;
    a.x = x.matrix();
    a.out = out.matrix();
    a.block = block;
    a.sign = sign;
    a.sign_length = sign_length;
    a.scale = static_cast<float>(scale);
    a.transpose = transpose != 0;
    return a;
  }
};

}  // namespace

extern "C" LOWBIT_EXPORT int64_t lowbit_cuda_hadamard_workspace(const CHadamard* c) {
  return cuda::hadamard_workspace(c->args());
}

extern "C" LOWBIT_EXPORT int lowbit_cuda_hadamard(const CHadamard* c, const cuda::CCall* call, char* error,
                                                  int64_t size) {
  return cuda::answer(cuda::hadamard(c->args(), call->call()), error, size);
}
