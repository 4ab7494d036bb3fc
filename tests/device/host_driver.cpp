// What mpimlsys/driver.py asks of CUDA's driver, on the host: memory of the "device" is the heap's.
// Every call wants the context to be current where the real one does; a GPU has 1 MiB here.
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kInvalidValue = 1, kOutOfMemory = 2, kInvalidDevice = 101, kInvalidContext = 201;
constexpr std::size_t kMemory = 1 << 20;
int the_context = 0;
int pushed = 0;

}  // namespace

extern "C" {

int cuInit(unsigned flags) { return flags == 0 ? 0 : kInvalidValue; }

int cuDeviceGet(int* device, int number) {
  *device = number + 5;
  return number == 0 ? 0 : kInvalidDevice;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = &the_context;
  return device == 5 ? 0 : kInvalidDevice;
}

int cuCtxPushCurrent_v2(void* context) {
  ++pushed;
  return context == &the_context ? 0 : kInvalidContext;
}

int cuCtxPopCurrent_v2(void** context) {
  *context = &the_context;
  return pushed-- > 0 ? 0 : kInvalidContext;
}

int cuMemAlloc_v2(std::uint64_t* address, std::size_t bytes) {
  if (pushed != 1) return kInvalidContext;
  if (bytes == 0) return kInvalidValue;
  if (bytes > kMemory) return kOutOfMemory;
  *address = reinterpret_cast<std::uint64_t>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  return 0;
}

int cuMemFree_v2(std::uint64_t address) {
  if (pushed != 1) return kInvalidContext;
  std::free(reinterpret_cast<void*>(address));
  return 0;
}

int cuMemcpy(std::uint64_t into, std::uint64_t from, std::size_t bytes) {
  if (pushed != 1) return kInvalidContext;
  std::memcpy(reinterpret_cast<void*>(into), reinterpret_cast<const void*>(from), bytes);
  return 0;
}

int cuGetErrorName(int code, const char** name) {
  *name = code == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_DEVICE";
  return 0;
}

}  // extern "C"
