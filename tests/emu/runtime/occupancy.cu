// The emulator's occupancy beside the toolkit's own calculator (cuda_occupancy.h) for the same kernel and device.
#include <cuda_occupancy.h>
#include <cuda_runtime.h>

extern __shared__ int dynamic[];

template <int kWords>
__global__ void kernel(int* out) {
  __shared__ int fixed[kWords];
  fixed[threadIdx.x % kWords] = dynamic[0];
  __syncthreads();
  out[threadIdx.x] = fixed[(threadIdx.x + 1) % kWords];
}

// Limited by its registers.
__global__ void __maxnreg__(104) wide(float* out) {
  float x[80];
  for (int i = 0; i < 80; ++i) x[i] = out[i * blockDim.x + threadIdx.x];
  __syncthreads();
  for (int i = 0; i < 80; ++i) out[i * blockDim.x + threadIdx.x] = x[79 - i];
}

const void* const kKernels[] = {reinterpret_cast<const void*>(kernel<32>), reinterpret_cast<const void*>(kernel<8192>),
                                reinterpret_cast<const void*>(wide)};

extern "C" int blocks(int kind, int threads, int shared, int* emulated, int* calculated) {
  const void* function = kKernels[kind];
  cudaDeviceProp properties;
  cudaFuncAttributes attributes;
  int error = static_cast<int>(cudaGetDeviceProperties(&properties, 0));
  if (error == 0) error = static_cast<int>(cudaFuncGetAttributes(&attributes, function));
  if (error == 0) {
    error = static_cast<int>(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(emulated, function, threads, static_cast<size_t>(shared)));
  }
  if (error != 0) return error;
  attributes.maxDynamicSharedSizeBytes = static_cast<int>(properties.sharedMemPerBlockOptin);
  const cudaOccDeviceProp device(properties);
  const cudaOccFuncAttributes occupied(attributes);
  const cudaOccDeviceState state;
  cudaOccResult result;
  error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &occupied, &state, threads,
                                                  static_cast<size_t>(shared));
  *calculated = result.activeBlocksPerMultiprocessor;
  return error;
}

extern "C" int registers(int kind) {
  cudaFuncAttributes a;
  cudaFuncGetAttributes(&a, kKernels[kind]);
  return a.numRegs;
}
