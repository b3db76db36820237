// In front of the emulator (LD_PRELOAD): a device whose compute capability is CAPABILITY, 10 major + minor, and which
// is the emulated one in all else.
#include <dlfcn.h>

extern "C" int cudaDeviceGetAttribute(int* value, int attribute, int device) {
  using Function = int (*)(int*, int, int);
  static const auto emulated = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "cudaDeviceGetAttribute"));
  const int error = emulated(value, attribute, device);
  if (error == 0 && attribute == 75) *value = CAPABILITY / 10;  // cudaDevAttrComputeCapabilityMajor
  if (error == 0 && attribute == 76) *value = CAPABILITY % 10;  // cudaDevAttrComputeCapabilityMinor
  return error;
}
