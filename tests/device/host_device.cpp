// device.hpp without a GPU, for tests: kernels run on the host, see host_streams.hpp for when.
// Memory is seen by other processes where it lies in a file of /dev/shm that
// tests/device/standin.py has mapped.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/failure.hpp"
#include "cuda/blend.hpp"
#include "cuda/codecs.hpp"
#include "cuda/device.hpp"
#include "cuda/host.hpp"
#include "cuda/low_rank.hpp"
#include "cuda/norm.hpp"
#include "cuda/reduce.hpp"
#include "host_streams.hpp"

namespace mls::device {
namespace {

using Clock = std::chrono::steady_clock;

// The mapping of a file of /dev/shm that an address lies in, from the kernel's list.
Shared mapping_of(std::uintptr_t address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, rights, offset, device, inode, path;
    words >> range >> rights >> offset >> device >> inode >> path;
    const std::size_t dash = range.find('-');
    const std::uintptr_t first = std::stoull(range.substr(0, dash), nullptr, 16);
    const std::uintptr_t end = std::stoull(range.substr(dash + 1), nullptr, 16);
    if (address < first || address >= end) continue;
    if (!path.starts_with("/dev/shm/")) break;
    return {path, address - first + std::stoull(offset, nullptr, 16), std::stoull(inode)};
  }
  throw Failure(FailureKind::config, "the GPU: this memory cannot be shared");
}

class HostDevice final : public Device {
 public:
  explicit HostDevice(int number) : number_(number) {}

  DeviceInfo info() override {
    return {"stand-in on the host",
            "number " + std::to_string(number_),
            number_,
            2,
            9,
            0,
            std::size_t{1} << 30,
            13000,
            13000,
            {}};
  }

  void encode(Stream stream, const Spec& spec, const float* x, std::size_t count, Feedback feedback,
              float* kept, Draw draw, std::byte* frame) override {
    run(stream,
        [=, this] { Codecs(machine_).encode(spec, {x, count, feedback, kept}, draw, frame); });
  }

  void decode(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
              std::size_t bytes, float* into) override {
    run(stream, [=, this] { Codecs(machine_).decode(spec, count, frame, bytes, into); });
  }

  void add(Stream stream, const Spec& spec, std::size_t count,
           std::span<const std::span<const std::byte>> frames, float factor, float* into) override {
    const std::vector<std::span<const std::byte>> all(frames.begin(), frames.end());
    run(stream, [=, this] { Codecs(machine_).add(spec, count, all, factor, into); });
  }

  void clear(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
             std::size_t bytes, float* into) override {
    run(stream, [=, this] { Codecs(machine_).clear(spec, count, frame, bytes, into); });
  }

  void blend(Stream stream, std::size_t count, float a, const float* x, float b, const float* y,
             float* into) override {
    run(stream, [=, this] { device::blend(machine_, {count, a, x, b, y, into}); });
  }

  void squares(Stream stream, const float* x, std::size_t count, double* into) override {
    run(stream, [=, this] { device::squares(machine_, x, count, into); });
  }

  void clip(Stream stream, float* x, std::size_t count, double most) override {
    run(stream, [=, this] { device::clip(machine_, x, count, most); });
  }

  void reduce(Stream stream, const Combine& how, std::span<const std::byte* const> from,
              std::span<std::byte* const> into, std::size_t count) override {
    const Blocks blocks = blocks_of(how, from, into, count);
    run(stream, [=, this] { reduce_blocks(machine_, how.dtype, blocks); });
  }

  void multiply_q(Stream stream, const Factored& shape, const float* m, const float* q,
                  float* p) override {
    run(stream, [=, this] { device::multiply_q(machine_, shape, m, q, p); });
  }

  void multiply_p(Stream stream, const Factored& shape, const float* m, const float* p,
                  float* q) override {
    run(stream, [=, this] { device::multiply_p(machine_, shape, m, p, q); });
  }

  void expand(Stream stream, const Factored& shape, const float* p, const float* q,
              float* m) override {
    run(stream, [=, this] { device::expand(machine_, shape, p, q, m); });
  }

  void add_expanded(Stream stream, const Factored& shape, const float* p, const float* q,
                    float factor, float* m) override {
    run(stream, [=, this] { device::add_expanded(machine_, shape, p, q, factor, m); });
  }

  void* allocate(std::size_t bytes, Stream stream) override {
    void* const memory = ::operator new(bytes, std::align_val_t(256));
    std::memset(memory, kGarbage, bytes);
    run(stream, [=] { std::memset(memory, 0, bytes); });
    return memory;
  }

  void* allocate_shared(std::size_t bytes) override {
    void* const memory = ::operator new(bytes, std::align_val_t(256));
    std::memset(memory, 0, bytes);
    return memory;
  }

  // A stream that is gone ends the process.
  void release(void* memory, const Stream* stream) noexcept override {
    const auto give_back = [=] { ::operator delete(memory, std::align_val_t(256)); };
    if (stream != nullptr) return streams_.run(*stream, give_back);
    streams_.finish();
    give_back();
  }

  void zero(Stream stream, void* memory, std::size_t bytes) override {
    run(stream, [=, this] { machine_.zero(memory, bytes); });
  }

  void copy(Stream stream, void* into, const void* from, std::size_t bytes) override {
    run(stream, [=, this] { machine_.copy(into, from, bytes); });
  }

  void copy_rows(Stream stream, void* into, std::size_t into_step, const void* from,
                 std::size_t from_step, std::size_t bytes, std::size_t rows) override {
    if (bytes > into_step || bytes > from_step) {
      throw Failure(FailureKind::config, "the GPU: copying rows: they overlap");
    }
    run(stream, [=, this] {
      for (std::size_t row = 0; row < rows; ++row) {
        machine_.copy(static_cast<std::byte*>(into) + row * into_step,
                      static_cast<const std::byte*>(from) + row * from_step, bytes);
      }
    });
  }

  void pin(void* memory, std::size_t) override {
    const std::scoped_lock lock(mutex_);
    if (!pinned_.insert(memory).second) {
      throw Failure(FailureKind::config, "the GPU: this memory is pinned already");
    }
  }

  void unpin(void* memory) override {
    const std::scoped_lock lock(mutex_);
    if (pinned_.erase(memory) == 0) {
      throw Failure(FailureKind::config, "the GPU: this memory is not pinned");
    }
  }

  Stream make_stream() override { return streams_.make(); }
  void drop_stream(Stream stream) noexcept override { streams_.drop(stream); }
  Event make_event(bool shared, bool) override { return streams_.make_event(shared); }
  void drop_event(Event event) noexcept override { streams_.drop_event(event); }
  void record(Event event, Stream stream) override { streams_.record(event, stream); }
  void follow(Stream stream, Event event) override { streams_.follow(stream, event); }
  bool ready(Event event) override { return streams_.ready(event); }

  bool wait(Event event, double seconds) override {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (!ready(event)) {
      if (Clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return true;
  }

  double seconds_between(Event from, Event to) override {
    return streams_.when(to) - streams_.when(from);
  }

  Shared share(const void* memory) override {
    return mapping_of(reinterpret_cast<std::uintptr_t>(memory));
  }

  void* see(const std::string& handle) override {
    const int file = ::open(handle.c_str(), O_RDWR | O_CLOEXEC);
    struct stat about{};
    if (file < 0 || ::fstat(file, &about) != 0) {
      throw Failure(FailureKind::config, "the GPU: there is no such memory");
    }
    const auto bytes = static_cast<std::size_t>(about.st_size);
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (memory == MAP_FAILED) throw Failure(FailureKind::config, "the GPU: it cannot be mapped");
    const std::scoped_lock lock(mutex_);
    seen_[memory] = bytes;
    return memory;
  }

  void unsee(void* memory) noexcept override {
    const std::scoped_lock lock(mutex_);
    const auto found = seen_.find(memory);
    if (found == seen_.end()) return;
    ::munmap(memory, found->second);
    seen_.erase(found);
  }

  std::string share_event(Event event) override { return streams_.share_event(event); }
  Event see_event(const std::string& handle) override { return streams_.see_event(handle); }

 private:
  // Kernels run one at a time.
  template <class Body>
  void run(Stream stream, Body body) {
    streams_.run(stream, [this, body] {
      const std::scoped_lock lock(running_);
      body();
    });
  }

  const int number_;
  HostMachine machine_;
  std::mutex running_;
  std::mutex mutex_;
  std::set<void*> pinned_;
  std::map<void*, std::size_t> seen_;
  Streams streams_;
};

}  // namespace

int device_count(std::string&) { return 2; }

std::unique_ptr<Device> open_device(int number) {
  if (number < 0 || number > 1) throw Failure(FailureKind::config, "there is no such GPU");
  return std::make_unique<HostDevice>(number);
}

}  // namespace mls::device
