#include "emu/rt/error.h"

#include <atomic>
#include <cstdio>

namespace emu {
namespace {

struct Row {
  int code;
  const char* name;
  const char* text;
};
constexpr Row kRows[] = {
    {0, "cudaSuccess", "no error"},
    {1, "cudaErrorInvalidValue", "invalid argument"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {3, "cudaErrorInitializationError", "initialization error"},
    {9, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {12, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {13, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {17, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {21, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {98, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {200, "cudaErrorInvalidKernelImage", "device kernel image is invalid"},
    {209, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {218, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {500, "cudaErrorSymbolNotFound", "named symbol not found"},
    {600, "cudaErrorNotReady", "device not ready"},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {701, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {702, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {710, "cudaErrorAssert", "device-side assert triggered"},
    {715, "cudaErrorIllegalInstruction", "an illegal instruction was encountered"},
    {716, "cudaErrorMisalignedAddress", "misaligned address"},
    {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {720, "cudaErrorCooperativeLaunchTooLarge", "too many blocks in cooperative launch"},
    {801, "cudaErrorNotSupported", "operation not supported"},
    {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {999, "cudaErrorUnknown", "unknown error"},
};

const Row* find(int code) {
  for (const Row& row : kRows) {
    if (row.code == code) return &row;
  }
  return nullptr;
}

thread_local abi::Error t_last = abi::kSuccess;
thread_local std::string t_sentence;
std::atomic<int> g_device_error{abi::kSuccess};

}  // namespace

abi::Error fail(abi::Error code, const std::string& sentence) {
  t_last = code;
  t_sentence = sentence;
  // A kernel that cannot run is never silent: most programs look at the code only, if at all.
  if (code == abi::kNoKernelImageForDevice || code == abi::kInvalidPtx) std::fprintf(stderr, "%s\n", sentence.c_str());
  return code;
}

abi::Error error_of(Finding finding) {
  switch (finding) {
    case Finding::kOutOfBounds: return abi::kIllegalAddress;
    case Finding::kHostAccess: return abi::kIllegalAddress;
    case Finding::kMisaligned: return abi::kMisalignedAddress;
    case Finding::kEndlessSpin: return abi::kLaunchTimeout;
    case Finding::kDeadlock: return abi::kLaunchTimeout;
    case Finding::kUnsupported: return abi::kIllegalInstruction;
    default: return abi::kLaunchFailure;
  }
}

void set_device_error(abi::Error code) { g_device_error = code; }
void clear_device_error() {
  g_device_error = abi::kSuccess;
  t_last = abi::kSuccess;
}

abi::Error device_error() {
  const auto code = static_cast<abi::Error>(g_device_error.load());
  if (code != abi::kSuccess) t_last = code;
  return code;
}

abi::Error last_error(bool reset) {
  const abi::Error device = device_error();
  const abi::Error code = device != abi::kSuccess ? device : t_last;
  if (reset) t_last = abi::kSuccess;
  return code;
}

const std::string& last_sentence() { return t_sentence; }
void set_sentence(const std::string& sentence) { t_sentence = sentence; }

const char* error_name(int code) {
  const Row* row = find(code);
  return row != nullptr ? row->name : "unrecognized error code";
}

const char* error_text(int code) {
  const Row* row = find(code);
  return row != nullptr ? row->text : "unrecognized error code";
}

}  // namespace emu

CUDART_API int cudaGetLastError() { return emu::last_error(true); }
CUDART_API int cudaPeekAtLastError() { return emu::last_error(false); }
CUDART_API const char* cudaGetErrorName(int code) { return emu::error_name(code); }
CUDART_API const char* cudaGetErrorString(int code) { return emu::error_text(code); }
