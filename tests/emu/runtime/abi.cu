// The emulator's own declarations of the runtime's structures, held against the toolkit's headers when this compiles.
#include <cuda_runtime.h>

#include <cstddef>

#include "emu/rt/abi.h"

namespace abi = emu::abi;

#define SAME_SIZE(ours, theirs) static_assert(sizeof(ours) == sizeof(theirs))
#define SAME_PLACE(ours, theirs, member) static_assert(offsetof(ours, member) == offsetof(theirs, member))

SAME_SIZE(abi::Dim3, dim3);
SAME_SIZE(abi::LaunchAttribute, cudaLaunchAttribute);
static_assert(offsetof(abi::LaunchAttribute, cluster) == offsetof(cudaLaunchAttribute, val));
static_assert(int{abi::kAttributeCooperative} == int{cudaLaunchAttributeCooperative});
static_assert(int{abi::kAttributeClusterDimension} == int{cudaLaunchAttributeClusterDimension});
SAME_SIZE(abi::LaunchConfig, cudaLaunchConfig_t);
static_assert(offsetof(abi::LaunchConfig, dynamic_shared) == offsetof(cudaLaunchConfig_t, dynamicSmemBytes));
static_assert(offsetof(abi::LaunchConfig, attributes) == offsetof(cudaLaunchConfig_t, attrs));
static_assert(offsetof(abi::LaunchConfig, attribute_count) == offsetof(cudaLaunchConfig_t, numAttrs));
SAME_SIZE(abi::FuncAttributes, cudaFuncAttributes);
SAME_PLACE(abi::FuncAttributes, cudaFuncAttributes, maxThreadsPerBlock);
SAME_PLACE(abi::FuncAttributes, cudaFuncAttributes, ptxVersion);
SAME_PLACE(abi::FuncAttributes, cudaFuncAttributes, maxDynamicSharedSizeBytes);
SAME_PLACE(abi::FuncAttributes, cudaFuncAttributes, nonPortableClusterSizeAllowed);
SAME_SIZE(abi::PointerAttributes, cudaPointerAttributes);
SAME_PLACE(abi::PointerAttributes, cudaPointerAttributes, hostPointer);
SAME_SIZE(abi::DeviceProp, cudaDeviceProp);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, totalGlobalMem);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, maxGridSize);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, totalConstMem);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, minor);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, multiProcessorCount);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, surfaceAlignment);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, l2CacheSize);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, sharedMemPerMultiprocessor);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, cooperativeLaunch);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, sharedMemPerBlockOptin);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, reservedSharedMemPerBlock);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, memoryPoolsSupported);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, clusterLaunch);
SAME_PLACE(abi::DeviceProp, cudaDeviceProp, hostNumaMultinodeIpcSupported);

#define SAME_CODE(ours, theirs) static_assert(int{abi::ours} == int{theirs})
SAME_CODE(kInvalidValue, cudaErrorInvalidValue);
SAME_CODE(kInvalidConfiguration, cudaErrorInvalidConfiguration);
SAME_CODE(kInvalidSymbol, cudaErrorInvalidSymbol);
SAME_CODE(kInvalidMemcpyDirection, cudaErrorInvalidMemcpyDirection);
SAME_CODE(kInvalidDeviceFunction, cudaErrorInvalidDeviceFunction);
SAME_CODE(kInvalidDevice, cudaErrorInvalidDevice);
SAME_CODE(kNoKernelImageForDevice, cudaErrorNoKernelImageForDevice);
SAME_CODE(kInvalidPtx, cudaErrorInvalidPtx);
SAME_CODE(kInvalidResourceHandle, cudaErrorInvalidResourceHandle);
SAME_CODE(kIllegalAddress, cudaErrorIllegalAddress);
SAME_CODE(kLaunchOutOfResources, cudaErrorLaunchOutOfResources);
SAME_CODE(kLaunchTimeout, cudaErrorLaunchTimeout);
SAME_CODE(kIllegalInstruction, cudaErrorIllegalInstruction);
SAME_CODE(kMisalignedAddress, cudaErrorMisalignedAddress);
SAME_CODE(kLaunchFailure, cudaErrorLaunchFailure);
SAME_CODE(kCooperativeLaunchTooLarge, cudaErrorCooperativeLaunchTooLarge);
SAME_CODE(kNotSupported, cudaErrorNotSupported);

extern "C" int attribute(int id) {
  int value = -1;
  return cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(id), 0) == cudaSuccess ? value : -1;
}

// Each property against the attribute of the same meaning; the line of the first that differs, 0 where none does.
extern "C" int properties() {
  cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, 0) != cudaSuccess) return __LINE__;
#define SAME(property, id) \
  if (static_cast<int>(p.property) != attribute(cudaDevAttr##id)) return __LINE__
  SAME(sharedMemPerBlock, MaxSharedMemoryPerBlock);
  SAME(regsPerBlock, MaxRegistersPerBlock);
  SAME(warpSize, WarpSize);
  SAME(maxThreadsPerBlock, MaxThreadsPerBlock);
  SAME(maxThreadsDim[0], MaxBlockDimX);
  SAME(maxThreadsDim[2], MaxBlockDimZ);
  SAME(maxGridSize[0], MaxGridDimX);
  SAME(maxGridSize[1], MaxGridDimY);
  SAME(totalConstMem, TotalConstantMemory);
  SAME(major, ComputeCapabilityMajor);
  SAME(minor, ComputeCapabilityMinor);
  SAME(multiProcessorCount, MultiProcessorCount);
  SAME(l2CacheSize, L2CacheSize);
  SAME(memoryBusWidth, GlobalMemoryBusWidth);
  SAME(maxThreadsPerMultiProcessor, MaxThreadsPerMultiProcessor);
  SAME(sharedMemPerMultiprocessor, MaxSharedMemoryPerMultiprocessor);
  SAME(regsPerMultiprocessor, MaxRegistersPerMultiprocessor);
  SAME(cooperativeLaunch, CooperativeLaunch);
  SAME(sharedMemPerBlockOptin, MaxSharedMemoryPerBlockOptin);
  SAME(maxBlocksPerMultiProcessor, MaxBlocksPerMultiprocessor);
  SAME(reservedSharedMemPerBlock, ReservedSharedMemoryPerBlock);
  SAME(clusterLaunch, ClusterLaunch);
  return 0;
}
