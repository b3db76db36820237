// Streams and events. A launch is over when its call returns, so a stream is a name and an event a time.
#include <chrono>
#include <mutex>
#include <set>

#include "emu/rt/error.h"
#include "emu/rt/record.h"
#include "emu/rt/registry.h"

namespace abi = emu::abi;

namespace {

struct Stream {
  unsigned flags;
  int priority;
};

struct Event {
  bool recorded = false;
  std::chrono::steady_clock::time_point at;
};

std::set<const void*>& handles() {
  static auto* h = new std::set<const void*>;
  return *h;
}

template <class T>
int create(void** out, T value) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  if (out == nullptr) return emu::fail(abi::kInvalidValue, "create: pointer must not be null");
  *out = new T(value);
  handles().insert(*out);
  return abi::kSuccess;
}

template <class T>
int destroy(void* handle) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  if (handles().erase(handle) == 0) return emu::fail(abi::kInvalidResourceHandle, "destroy: handle must be alive");
  delete static_cast<T*>(handle);
  return abi::kSuccess;
}

int synchronize() {
  emu::add_wait();
  return emu::device_error();
}

int record(void* event) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  if (handles().count(event) == 0)
    return emu::fail(abi::kInvalidResourceHandle, "cudaEventRecord: event must be alive");
  auto* e = static_cast<Event*>(event);
  e->recorded = true;
  e->at = std::chrono::steady_clock::now();
  return emu::device_error();
}

int refuse_graphs(const char* call) {
  return emu::fail(abi::kNotSupported, std::string(call) + ": the emulator has no graphs; launch on the stream itself");
}

}  // namespace

CUDART_API int cudaStreamCreate(void** out) { return create(out, Stream{0, 0}); }
CUDART_API int cudaStreamCreateWithFlags(void** out, unsigned flags) { return create(out, Stream{flags, 0}); }
CUDART_API int cudaStreamCreateWithPriority(void** out, unsigned flags, int priority) {
  return create(out, Stream{flags, priority});
}
CUDART_API int cudaStreamDestroy(void* stream) { return destroy<Stream>(stream); }
CUDART_API int cudaStreamSynchronize(void*) { return synchronize(); }
CUDART_API int cudaStreamSynchronize_ptsz(void*) { return synchronize(); }
CUDART_API int cudaStreamQuery(void*) { return emu::device_error(); }
CUDART_API int cudaStreamWaitEvent(void*, void*, unsigned) { return emu::device_error(); }
CUDART_API int cudaStreamGetDevice(void*, int* device) {
  *device = 0;
  return abi::kSuccess;
}
CUDART_API int cudaStreamGetPriority(void* stream, int* priority) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  *priority = handles().count(stream) != 0 ? static_cast<Stream*>(stream)->priority : 0;
  return abi::kSuccess;
}
CUDART_API int cudaStreamGetFlags(void* stream, unsigned* flags) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  *flags = handles().count(stream) != 0 ? static_cast<Stream*>(stream)->flags : 0;
  return abi::kSuccess;
}
CUDART_API int cudaStreamGetId(void* stream, unsigned long long* id) {
  *id = reinterpret_cast<uintptr_t>(stream);
  return abi::kSuccess;
}
CUDART_API int cudaLaunchHostFunc(void*, void (*function)(void*), void* data) {
  if (const abi::Error e = emu::device_error(); e != abi::kSuccess) return e;
  function(data);
  return abi::kSuccess;
}

CUDART_API int cudaEventCreate(void** out) { return create(out, Event{}); }
CUDART_API int cudaEventCreateWithFlags(void** out, unsigned) { return create(out, Event{}); }
CUDART_API int cudaEventDestroy(void* event) { return destroy<Event>(event); }
CUDART_API int cudaEventRecord(void* event, void*) { return record(event); }
CUDART_API int cudaEventRecordWithFlags(void* event, void*, unsigned) { return record(event); }
CUDART_API int cudaEventSynchronize(void*) { return synchronize(); }
CUDART_API int cudaEventQuery(void*) { return emu::device_error(); }
CUDART_API int cudaEventElapsedTime(float* ms, void* start, void* end) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  const auto* a = static_cast<const Event*>(start);
  const auto* b = static_cast<const Event*>(end);
  if (handles().count(start) == 0 || handles().count(end) == 0 || !a->recorded || !b->recorded) {
    return emu::fail(abi::kInvalidResourceHandle, "cudaEventElapsedTime: both events must be recorded");
  }
  *ms = std::chrono::duration<float, std::milli>(b->at - a->at).count();
  return abi::kSuccess;
}

CUDART_API int cudaStreamIsCapturing(void*, int* status) {
  *status = 0;
  return abi::kSuccess;
}
CUDART_API int cudaStreamGetCaptureInfo(void*, int* status, unsigned long long* id, void** graph,
                                        const void** dependencies, const void** edges, size_t* count) {
  *status = 0;
  if (id != nullptr) *id = 0;
  if (graph != nullptr) *graph = nullptr;
  if (dependencies != nullptr) *dependencies = nullptr;
  if (edges != nullptr) *edges = nullptr;
  if (count != nullptr) *count = 0;
  return abi::kSuccess;
}
CUDART_API int cudaThreadExchangeStreamCaptureMode(int*) { return abi::kSuccess; }
CUDART_API int cudaStreamBeginCapture(void*, int) { return refuse_graphs("cudaStreamBeginCapture"); }
CUDART_API int cudaStreamEndCapture(void*, void**) { return refuse_graphs("cudaStreamEndCapture"); }
CUDART_API int cudaGraphCreate(void**, unsigned) { return refuse_graphs("cudaGraphCreate"); }
CUDART_API int cudaGraphInstantiate(void**, void*, unsigned long long) { return refuse_graphs("cudaGraphInstantiate"); }
CUDART_API int cudaGraphLaunch(void*, void*) { return refuse_graphs("cudaGraphLaunch"); }
