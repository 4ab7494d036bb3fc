// The GPU behind device.hpp, through the CUDA runtime. The file is long because every function
// of that interface is here, each a few lines: nothing else sees CUDA.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "cuda/blend.hpp"
#include "cuda/codecs.hpp"
#include "cuda/cuda_team.cuh"
#include "cuda/device.hpp"
#include "cuda/low_rank.hpp"
#include "cuda/norm.hpp"
#include "cuda/reduce.hpp"

namespace mls::device {
namespace {

void must(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // it is told here, and not by the next call too
  throw Failure(FailureKind::config, std::string("the GPU: ") + what + ": " +
                                         cudaGetErrorString(code) + " (" + cudaGetErrorName(code) +
                                         ")");
}

constexpr double kSpinSeconds = 300e-6;

cudaStream_t stream_of(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(Event event) { return reinterpret_cast<cudaEvent_t>(event); }

// What codecs.hpp calls a machine: a stream.
class StreamMachine {
 public:
  StreamMachine(cudaStream_t stream, cudaMemPool_t pool, std::size_t processors)
      : stream_(stream), pool_(pool), processors_(processors) {}

  template <class T>
  class Room {
   public:
    Room(cudaStream_t stream, cudaMemPool_t pool, std::size_t count) : stream_(stream) {
      void* memory = nullptr;
      must(cudaMallocFromPoolAsync(&memory, std::max<std::size_t>(count, 1) * sizeof(T), pool,
                                   stream),
           "no memory for what an encoding needs besides");
      memory_ = static_cast<T*>(memory);
    }
    ~Room() { cudaFreeAsync(memory_, stream_); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    T* get() const { return memory_; }

   private:
    const cudaStream_t stream_;
    T* memory_ = nullptr;
  };

  template <class T>
  Room<T> room(std::size_t count) {
    return Room<T>(stream_, pool_, count);
  }

  template <class Kernel>
  void run(std::size_t work, const Kernel& kernel) {
    // twice what runs at a time, so that none waits for the last
    run_at_most(2 * resident<Kernel>() * processors_, work, kernel);
  }

  template <class Kernel>
  void run_few(std::size_t work, const Kernel& kernel) {
    run_at_most(4 * processors_, work, kernel);
  }

  template <class Kernel>
  void run_all(std::size_t teams, const Kernel& kernel) {
    const auto blocks =
        static_cast<unsigned>(ceil_div(teams, CudaTeam<Kernel::kThreads>::kPerBlock));
    start<Kernel><<<blocks, kBlockThreads, 0, stream_>>>(kernel, teams);
    must(cudaGetLastError(), "a kernel did not start");
  }

  void zero(void* memory, std::size_t bytes) {
    if (bytes > 0) must(cudaMemsetAsync(memory, 0, bytes, stream_), "zeroing memory");
  }

 private:
  // Blocks of a multiprocessor.
  template <class Kernel>
  static std::size_t resident() {
    static const std::size_t most = [] {
      int blocks = 0;
      must(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, start<Kernel>, kBlockThreads, 0),
           "asking how many blocks run at a time");
      return static_cast<std::size_t>(std::max(blocks, 1));
    }();
    return most;
  }

  template <class Kernel>
  void run_at_most(std::size_t blocks, std::size_t work, const Kernel& kernel) {
    const std::size_t most = blocks * CudaTeam<Kernel::kThreads>::kPerBlock;
    run_all(std::clamp<std::size_t>(work, 1, most), kernel);
  }

  const cudaStream_t stream_;
  const cudaMemPool_t pool_;
  const std::size_t processors_;
};

// A function of the driver. It is asked for through the runtime, so that the extension can be
// loaded where there is no driver.
template <class Function>
Function of_driver(const char* name) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t code =
      cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &found);
  if (code != cudaSuccess) cudaGetLastError();
  return code == cudaSuccess && found == cudaDriverEntryPointSuccess
             ? reinterpret_cast<Function>(entry)
             : nullptr;
}

// Makes a device the current one of this thread, for a while; for good where none was, as going
// back would open the first device.
class OnDevice {
 public:
  explicit OnDevice(int number) noexcept {
    static const auto current = of_driver<CUresult (*)(CUcontext*)>("cuCtxGetCurrent");
    CUcontext context = nullptr;
    int before = number;
    const bool had = current != nullptr && current(&context) == CUDA_SUCCESS && context != nullptr;
    if (had && cudaGetDevice(&before) == cudaSuccess && before != number) before_ = before;
    if (!had || before_ >= 0) cudaSetDevice(number);  // what is called next tells if it fails
  }
  ~OnDevice() {
    if (before_ >= 0) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = -1;
};

int attribute(cudaDeviceAttr name, int number) {
  int value = 0;
  must(cudaDeviceGetAttribute(&value, name, number), "asking for an attribute");
  return value;
}

class Gpu final : public Device {
 public:
  explicit Gpu(int number) : number_(number) {
    const OnDevice on(number_);
    processors_ = static_cast<std::size_t>(attribute(cudaDevAttrMultiProcessorCount, number_));
    // a pool of its own: memory that was used once is kept for the next time
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {cudaMemLocationTypeDevice, number_};
    must(cudaMemPoolCreate(&pool_, &properties), "making a pool of memory");
    std::uint64_t all = ~std::uint64_t{0};
    must(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &all),
         "setting up the pool of memory");
  }

  DeviceInfo info() override {
    const OnDevice on(number_);
    DeviceInfo info;
    cudaDeviceProp properties{};
    must(cudaGetDeviceProperties(&properties, number_), "asking for properties");
    info.name = properties.name;
    info.number = number_;
    must(cudaGetDeviceCount(&info.count), "counting devices");
    info.uuid = std::string(properties.uuid.bytes, sizeof properties.uuid.bytes);
    info.major = properties.major;
    info.minor = properties.minor;
    info.memory = properties.totalGlobalMem;
    must(cudaDriverGetVersion(&info.driver), "asking for the driver's version");
    must(cudaRuntimeGetVersion(&info.runtime), "asking for the runtime's version");
    for (int other = 0; other < info.count; ++other) {
      int can = 0;
      if (other == number_) continue;
      must(cudaDeviceCanAccessPeer(&can, number_, other), "asking for access to a peer");
      if (can) info.peers.push_back(other);
    }
    return info;
  }

  void encode(Stream stream, const Spec& spec, const float* x, std::size_t count, Feedback feedback,
              float* kept, Draw draw, std::byte* frame) override {
    Here here = on_stream(stream);
    Codecs(here.machine).encode(spec, {x, count, feedback, kept}, draw, frame);
  }

  void decode(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
              std::size_t bytes, float* into) override {
    Here here = on_stream(stream);
    Codecs(here.machine).decode(spec, count, frame, bytes, into);
  }

  void add(Stream stream, const Spec& spec, std::size_t count,
           std::span<const std::span<const std::byte>> frames, float factor, float* into) override {
    Here here = on_stream(stream);
    Codecs(here.machine).add(spec, count, frames, factor, into);
  }

  void clear(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
             std::size_t bytes, float* into) override {
    Here here = on_stream(stream);
    Codecs(here.machine).clear(spec, count, frame, bytes, into);
  }

  void blend(Stream stream, std::size_t count, float a, const float* x, float b, const float* y,
             float* into) override {
    Here here = on_stream(stream);
    device::blend(here.machine, {count, a, x, b, y, into});
  }

  void squares(Stream stream, const float* x, std::size_t count, double* into) override {
    Here here = on_stream(stream);
    device::squares(here.machine, x, count, into);
  }

  void clip(Stream stream, float* x, std::size_t count, double most) override {
    Here here = on_stream(stream);
    device::clip(here.machine, x, count, most);
  }

  void reduce(Stream stream, const Combine& how, std::span<const std::byte* const> from,
              std::span<std::byte* const> into, std::size_t count) override {
    Here here = on_stream(stream);
    reduce_blocks(here.machine, how.dtype, blocks_of(how, from, into, count));
  }

  void multiply_q(Stream stream, const Factored& shape, const float* m, const float* q,
                  float* p) override {
    Here here = on_stream(stream);
    device::multiply_q(here.machine, shape, m, q, p);
  }

  void multiply_p(Stream stream, const Factored& shape, const float* m, const float* p,
                  float* q) override {
    Here here = on_stream(stream);
    device::multiply_p(here.machine, shape, m, p, q);
  }

  void expand(Stream stream, const Factored& shape, const float* p, const float* q,
              float* m) override {
    Here here = on_stream(stream);
    device::expand(here.machine, shape, p, q, m);
  }

  void add_expanded(Stream stream, const Factored& shape, const float* p, const float* q,
                    float factor, float* m) override {
    Here here = on_stream(stream);
    device::add_expanded(here.machine, shape, p, q, factor, m);
  }

  void* allocate(std::size_t bytes, Stream stream) override {
    const OnDevice on(number_);
    void* memory = nullptr;
    must(
        cudaMallocFromPoolAsync(&memory, std::max<std::size_t>(bytes, 1), pool_, stream_of(stream)),
        "no memory");
    must(cudaMemsetAsync(memory, 0, bytes, stream_of(stream)), "zeroing memory");
    return memory;
  }

  void* allocate_shared(std::size_t bytes) override {
    const OnDevice on(number_);
    void* memory = nullptr;
    must(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)), "no memory");
    must(cudaMemset(memory, 0, bytes), "zeroing memory");
    // other streams do not wait for the one that it ran on
    must(cudaStreamSynchronize(cudaStreamLegacy), "zeroing memory");
    return memory;
  }

  void release(void* memory, const Stream* stream) noexcept override {
    const OnDevice on(number_);
    // a caller's stream may be gone, and all that was on it is done then
    if (stream != nullptr && cudaFreeAsync(memory, stream_of(*stream)) == cudaSuccess) return;
    cudaGetLastError();
    cudaFree(memory);
  }

  void zero(Stream stream, void* memory, std::size_t bytes) override {
    const OnDevice on(number_);
    must(cudaMemsetAsync(memory, 0, bytes, stream_of(stream)), "zeroing memory");
  }

  void copy(Stream stream, void* into, const void* from, std::size_t bytes) override {
    const OnDevice on(number_);
    must(cudaMemcpyAsync(into, from, bytes, cudaMemcpyDefault, stream_of(stream)), "copying");
  }

  void copy_rows(Stream stream, void* into, std::size_t into_step, const void* from,
                 std::size_t from_step, std::size_t bytes, std::size_t rows) override {
    if (rows == 1) return copy(stream, into, from, bytes);  // it may be longer than steps can be
    const OnDevice on(number_);
    must(cudaMemcpy2DAsync(into, into_step, from, from_step, bytes, rows, cudaMemcpyDeviceToDevice,
                           stream_of(stream)),
         "copying rows");
  }

  void pin(void* memory, std::size_t bytes) override {
    const OnDevice on(number_);
    must(cudaHostRegister(memory, bytes, cudaHostRegisterPortable), "pinning host memory");
  }

  void unpin(void* memory) override {
    const OnDevice on(number_);
    must(cudaHostUnregister(memory), "unpinning host memory");
  }

  Stream make_stream() override {
    const OnDevice on(number_);
    cudaStream_t stream = nullptr;
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
    return reinterpret_cast<Stream>(stream);
  }

  void drop_stream(Stream stream) noexcept override {
    const OnDevice on(number_);
    cudaStreamDestroy(stream_of(stream));
  }

  Event make_event(bool shared, bool timed) override {
    const OnDevice on(number_);
    unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
    if (shared) flags = cudaEventDisableTiming | cudaEventInterprocess;
    cudaEvent_t event = nullptr;
    must(cudaEventCreateWithFlags(&event, flags), "making an event");
    return reinterpret_cast<Event>(event);
  }

  void drop_event(Event event) noexcept override {
    const OnDevice on(number_);
    cudaEventDestroy(event_of(event));
  }

  void record(Event event, Stream stream) override {
    const OnDevice on(number_);
    must(cudaEventRecord(event_of(event), stream_of(stream)), "recording an event");
  }

  void follow(Stream stream, Event event) override {
    const OnDevice on(number_);
    must(cudaStreamWaitEvent(stream_of(stream), event_of(event)), "waiting for an event");
  }

  bool ready(Event event) override {
    const OnDevice on(number_);
    const cudaError_t code = cudaEventQuery(event_of(event));
    if (code == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    must(code, "asking for an event");
    return true;
  }

  bool wait(Event event, double seconds) override {
    const auto started = std::chrono::steady_clock::now();
    while (!ready(event)) {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - started;
      if (waited.count() > seconds) return false;
      if (waited.count() < kSpinSeconds) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
    return true;
  }

  double seconds_between(Event from, Event to) override {
    const OnDevice on(number_);
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, event_of(from), event_of(to)), "timing");
    return static_cast<double>(milliseconds) * 1e-3;
  }

  Shared share(const void* memory) override {
    const OnDevice on(number_);
    const CUdeviceptr base = base_of(memory);
    const auto offset = static_cast<std::size_t>(reinterpret_cast<CUdeviceptr>(memory) - base);
    const std::uint64_t id = id_of(base);
    const std::scoped_lock lock(mutex_);
    const auto known = handles_.find(id);
    if (known != handles_.end()) return {known->second, offset, id};
    cudaIpcMemHandle_t bits;
    must(cudaIpcGetMemHandle(&bits, reinterpret_cast<void*>(base)),
         "sharing memory with other processes");
    if (handles_.size() == kHandles) handles_.clear();
    const std::string handle(reinterpret_cast<const char*>(&bits), sizeof bits);
    handles_.emplace(id, handle);
    return {handle, offset, id};
  }

  void* see(const std::string& handle) override {
    const OnDevice on(number_);
    cudaIpcMemHandle_t bits;
    copy_handle(handle, &bits, sizeof bits);
    void* memory = nullptr;
    must(cudaIpcOpenMemHandle(&memory, bits, cudaIpcMemLazyEnablePeerAccess),
         "opening another process's memory");
    return memory;
  }

  void unsee(void* memory) noexcept override {
    const OnDevice on(number_);
    cudaIpcCloseMemHandle(memory);
  }

  std::string share_event(Event event) override {
    const OnDevice on(number_);
    cudaIpcEventHandle_t handle;
    must(cudaIpcGetEventHandle(&handle, event_of(event)), "sharing an event");
    return {reinterpret_cast<const char*>(&handle), sizeof handle};
  }

  Event see_event(const std::string& handle) override {
    const OnDevice on(number_);
    cudaIpcEventHandle_t bits;
    copy_handle(handle, &bits, sizeof bits);
    cudaEvent_t event = nullptr;
    must(cudaIpcOpenEventHandle(&event, bits), "opening another process's event");
    return reinterpret_cast<Event>(event);
  }

 private:
  static void copy_handle(const std::string& handle, void* into, std::size_t bytes) {
    if (handle.size() != bytes) throw Failure(FailureKind::config, "this is no handle of CUDA");
    std::memcpy(into, handle.data(), bytes);
  }

  // The start of an allocation, which is what a handle is of.
  static CUdeviceptr base_of(const void* memory) {
    static const auto range =
        of_driver<CUresult (*)(CUdeviceptr*, std::size_t*, CUdeviceptr)>("cuMemGetAddressRange");
    CUdeviceptr base = 0;
    std::size_t size = 0;
    if (range == nullptr ||
        range(&base, &size, reinterpret_cast<CUdeviceptr>(memory)) != CUDA_SUCCESS) {
      throw Failure(FailureKind::config, "the GPU: this is no memory of an allocation");
    }
    return base;
  }

  // The number of an allocation, which no other one of this process has.
  static std::uint64_t id_of(CUdeviceptr base) {
    static const auto ask =
        of_driver<CUresult (*)(void*, CUpointer_attribute, CUdeviceptr)>("cuPointerGetAttribute");
    unsigned long long id = 0;
    if (ask == nullptr || ask(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, base) != CUDA_SUCCESS) {
      throw Failure(FailureKind::config, "the GPU: this allocation has no number");
    }
    return id;
  }

  // A stream's machine; the device is the current one while it lives.
  struct Here {
    OnDevice on;
    StreamMachine machine;
  };
  Here on_stream(Stream stream) {
    return {OnDevice(number_), StreamMachine(stream_of(stream), pool_, processors_)};
  }

  static constexpr std::size_t kHandles = 64;

  const int number_;
  std::size_t processors_ = 0;
  cudaMemPool_t pool_ = nullptr;
  std::mutex mutex_;
  std::map<std::uint64_t, std::string> handles_;  // of allocations, by id: to ask CUDA is slow
};

}  // namespace

int device_count(std::string& why) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) {
    cudaGetLastError();
    int driver = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
      why = "it has no driver of NVIDIA";
      return 0;
    }
    why = std::string(cudaGetErrorString(code)) + " (" + cudaGetErrorName(code) + ")";
    return 0;
  }
  if (count == 0) why = "the driver finds no GPU";
  return count;
}

std::unique_ptr<Device> open_device(int number) {
  std::string why;
  const int count = device_count(why);
  if (count == 0) throw Failure(FailureKind::config, "there is no GPU to use: " + why);
  if (number < 0 || number >= count) {
    throw Failure(FailureKind::config, "there is no GPU " + std::to_string(number) +
                                           ": there are " + std::to_string(count));
  }
  return std::make_unique<Gpu>(number);
}

}  // namespace mls::device
