// Runtime calls as programs make them: variables, copies, launches that must be refused, streams, events.
#include <cuda_runtime.h>

#include <cstring>

__device__ int table[4] = {10, 20, 30, 40};
__device__ int* into_table = &table[2];
__device__ int cleared[3];
__constant__ float factors[2] = {0.5f, 2.0f};
extern __shared__ int dynamic[];

__global__ void read_variables(int* out) {
  out[0] = table[threadIdx.x + 1];
  out[1] = *into_table;
  out[2] = cleared[0] + cleared[2];
  out[3] = static_cast<int>(factors[0] * 10 + factors[1] * 100);
  cleared[1] = 7;
}
__global__ void which_arch(int* out) {
#ifdef __CUDA_ARCH__
  *out = __CUDA_ARCH__;
#endif
}
__global__ void __launch_bounds__(64) bounded(int* out) { out[threadIdx.x] = 1; }
__global__ void use_dynamic(int* out) {
  dynamic[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = dynamic[blockDim.x - 1 - threadIdx.x];
}
struct Mixed {
  char c;
  double d;
  short s;
};
__global__ void mixed(char a, Mixed m, short b, int4 v, double* out) {
  out[0] = a + m.c + m.d + m.s + b + v.x + v.y + v.z + v.w;
}

template <class T>
T* device(size_t n) {
  T* p = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&p), n * sizeof(T));
  return p;
}

extern "C" {

int variables(int* out) {
  int* d = device<int>(4);
  read_variables<<<1, 1>>>(d);
  int error = static_cast<int>(cudaMemcpy(out, d, 16, cudaMemcpyDeviceToHost));
  const int fresh[2] = {77, 88};
  if (error == 0) error = static_cast<int>(cudaMemcpyToSymbol(table, fresh, 8, 4));
  read_variables<<<1, 1>>>(d);
  if (error == 0) error = static_cast<int>(cudaMemcpy(out + 4, d, 16, cudaMemcpyDeviceToHost));
  if (error == 0) error = static_cast<int>(cudaMemcpyFromSymbol(out + 8, cleared, 12));
  void* address = nullptr;
  size_t bytes = 0;
  if (error == 0) error = static_cast<int>(cudaGetSymbolAddress(&address, table));
  if (error == 0) error = static_cast<int>(cudaGetSymbolSize(&bytes, table));
  if (error == 0) error = static_cast<int>(cudaMemcpy(out + 11, static_cast<int*>(address) + 1, 4, cudaMemcpyDefault));
  out[12] = static_cast<int>(bytes);
  cudaFree(d);
  return error;
}

int arch_of_code(int* out) {
  int* d = device<int>(1);
  which_arch<<<1, 1>>>(d);
  int error = static_cast<int>(cudaGetLastError());
  if (error == 0) error = static_cast<int>(cudaMemcpy(out, d, 4, cudaMemcpyDeviceToHost));
  cudaFree(d);
  return error;
}

int launch_bounded(unsigned gx, unsigned gy, unsigned bx, unsigned bz, size_t shared) {
  int* d = device<int>(2048);
  bounded<<<dim3(gx, gy), dim3(bx, 1, bz), shared>>>(d);
  const int error = static_cast<int>(cudaGetLastError());
  cudaFree(d);
  return error;
}

int launch_dynamic(int bytes, int opt_in) {
  int* d = device<int>(32);
  int error = 0;
  if (opt_in != 0) {
    cudaFuncSetAttribute(use_dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, opt_in);
    error = static_cast<int>(cudaGetLastError());
  }
  if (error == 0) {
    use_dynamic<<<1, 32, bytes>>>(d);
    error = static_cast<int>(cudaGetLastError());
  }
  cudaFree(d);
  return error;
}

int pass_parameters(double* out) {
  double* d = device<double>(1);
  mixed<<<1, 1>>>(static_cast<char>(1), Mixed{2, 3.5, 4}, static_cast<short>(5), make_int4(6, 7, 8, 9), d);
  const int error = static_cast<int>(cudaMemcpy(out, d, 8, cudaMemcpyDeviceToHost));
  cudaFree(d);
  return error;
}

int launch_unknown() {
  return static_cast<int>(cudaLaunchKernel(reinterpret_cast<const void*>(&launch_unknown), 1, 1, nullptr));
}

int copies() {
  char host[64], back[64] = {};
  for (int i = 0; i < 64; ++i) host[i] = static_cast<char>(i);
  char *a = device<char>(64), *b = device<char>(64);
  if (cudaMemcpy(a, host, 64, cudaMemcpyHostToDevice) != cudaSuccess) return 1;
  if (cudaMemcpyAsync(b, a, 64, cudaMemcpyDeviceToDevice) != cudaSuccess) return 2;
  if (cudaMemset(b + 8, 0x55, 8) != cudaSuccess) return 3;
  if (cudaMemcpy2D(back, 16, b, 32, 16, 2, cudaMemcpyDeviceToHost) != cudaSuccess) return 4;
  if (std::memcmp(back, host, 8) != 0 || back[8] != 0x55 || back[15] != 0x55 || back[16] != 32 || back[31] != 47)
    return 5;
  if (cudaMemcpy(a, host, 65, cudaMemcpyHostToDevice) != cudaErrorInvalidValue) return 6;
  if (cudaMemcpy(back, a + 60, 8, cudaMemcpyDeviceToHost) != cudaErrorInvalidValue) return 7;
  if (cudaMemcpy(a, host, 8, cudaMemcpyDeviceToHost) == cudaSuccess) return 8;
  if (cudaFree(a + 8) != cudaErrorInvalidValue) return 9;
  cudaPointerAttributes at;
  if (cudaPointerGetAttributes(&at, a + 5) != cudaSuccess || at.type != cudaMemoryTypeDevice) return 10;
  if (cudaPointerGetAttributes(&at, host) != cudaSuccess || at.type != cudaMemoryTypeUnregistered) return 11;
  size_t before = 0, after = 0, total = 0;
  cudaMemGetInfo(&before, &total);
  if (cudaFree(a) != cudaSuccess || cudaFree(b) != cudaSuccess) return 12;
  cudaMemGetInfo(&after, &total);
  if (after < before + 128) return 13;
  void* huge = nullptr;
  if (cudaMalloc(&huge, total + 1) != cudaErrorMemoryAllocation || huge != nullptr) return 14;
  cudaGetLastError();
  return cudaGetLastError() == cudaSuccess ? 0 : 15;
}

int pinned(int* out) {
  int* host = nullptr;
  if (cudaMallocHost(reinterpret_cast<void**>(&host), 32 * sizeof(int)) != cudaSuccess) return 1;
  bounded<<<1, 32>>>(host);
  int error = static_cast<int>(cudaDeviceSynchronize());
  *out = host[31];
  cudaFreeHost(host);
  return error;
}

int streams() {
  cudaStream_t s;
  cudaEvent_t a, b;
  if (cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) != cudaSuccess) return 1;
  if (cudaEventCreate(&a) != cudaSuccess || cudaEventCreateWithFlags(&b, cudaEventDefault) != cudaSuccess) return 2;
  float ms = -1;
  if (cudaEventElapsedTime(&ms, a, b) != cudaErrorInvalidResourceHandle) return 3;
  int* d = device<int>(64);
  cudaEventRecord(a, s);
  bounded<<<1, 64, 0, s>>>(d);
  cudaEventRecord(b, s);
  if (cudaStreamSynchronize(s) != cudaSuccess || cudaEventElapsedTime(&ms, a, b) != cudaSuccess || ms < 0) return 4;
  cudaStreamCaptureStatus status;
  if (cudaStreamIsCapturing(s, &status) != cudaSuccess || status != cudaStreamCaptureStatusNone) return 5;
  if (cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal) != cudaErrorNotSupported) return 6;
  cudaFree(d);
  if (cudaStreamDestroy(s) != cudaSuccess || cudaEventDestroy(a) != cudaSuccess || cudaEventDestroy(b) != cudaSuccess)
    return 7;
  cudaGetLastError();
  return 0;
}
}
