// Every construct of the language that nvcc turns into another form of PTX: structs by value, function pointers, switch
// tables, static, dynamic and constant memory, initialized pointers, local arrays, device printf and inline assembly
// with scopes, labels and predicates of its own.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>

struct Record {
  int first;
  char second;
  double third;
};
struct alignas(16) Wide {
  float4 values[2];
  const void* owner;
};

__constant__ float table[4] = {1.0f, 2.0f, -3.5f, 1e-8f};
__constant__ double precise[2] = {0.1, -1e300};
__device__ int counter = 7;
__device__ int* to_counter = &counter;
__device__ int* to_second[2] = {nullptr, &counter};
__device__ const char* message = "text with \"quotes\", and a comma\n";
extern __shared__ float dynamic[];

__device__ __noinline__ int by_value(Record r, int x) { return r.first + x * static_cast<int>(r.third); }
__device__ __noinline__ Record give_back(int x) { return {x, 1, x * 0.5}; }
__device__ __noinline__ float wide(Wide w) { return w.values[1].z + (w.owner == nullptr); }
__device__ __noinline__ void nothing(int* p) { *p = 3; }
__device__ __noinline__ int increment(int x) { return x + 1; }
__device__ __noinline__ int triple(int x) { return x * 3; }
using Function = int (*)(int);
__device__ Function functions[2] = {increment, triple};

__global__ void __launch_bounds__(128, 2) everything(float* out, const Record by_parameter, int n, __half* h) {
  __shared__ float rows[32];
  __shared__ double single;
  rows[threadIdx.x & 31] = out[n];
  if (threadIdx.x == 0) single = 3.0;
  __syncthreads();
  const Record r = give_back(n);
  int local[8];
  for (int i = 0; i < 8; ++i) local[i] = i * n;
  switch (n) {
    case 0: out[1] = 1; break;
    case 1: out[3] = static_cast<float>(single); break;
    case 2: out[5] = table[n & 3] + static_cast<float>(precise[n & 1]); break;
    case 3: nothing(local + 3); break;
    case 4: printf("%d %s\n", n, message); break;
    case 5: out[0] = 3; break;
    case 6: dynamic[n] = 3; break;
    case 7: out[8] = wide({{{1, 2, 3, 4}, {5, 6, 7, static_cast<float>(n)}}, out}); break;
  }
  out[threadIdx.x] = rows[31 - (threadIdx.x & 31)] + by_value(by_parameter, n) + by_value(r, 2) + local[n & 7] +
                     functions[n & 1](n) + static_cast<float>(clock64());
  if (!__any_sync(~0u, n > 3)) *to_counter = __shfl_down_sync(~0u, n, 1) + *to_second[1];
  h[n] = __hadd(h[n + 1], __float2half(1.0f));
  for (int i = 0; i < 2; ++i) {
    asm volatile(
        "{\n .reg .pred p;\n .reg .b32 lo, hi;\n AGAIN:\n mov.b64 {lo, hi}, %1;\n setp.ne.and.s32 p, lo, 0x10, !p;\n"
        " @!p bra.uni DONE;\n bra.uni AGAIN;\n DONE:\n add.s32 %0, hi, -0x1;\n }"
        : "=r"(local[i])
        : "l"(out + i));
  }
  out[7] += message[n] + local[0] + local[1];
}
