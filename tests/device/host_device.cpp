// device.hpp without a GPU, for tests: kernels run on the host, streams run at once. Memory is seen
// by other processes where it lies in a file of /dev/shm that tests/device/standin.py has mapped.
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

#include "base/failure.hpp"
#include "cuda/blend.hpp"
#include "cuda/codecs.hpp"
#include "cuda/device.hpp"
#include "cuda/host.hpp"
#include "cuda/low_rank.hpp"
#include "cuda/norm.hpp"
#include "cuda/reduce.hpp"

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
    known(stream);
    Codecs(machine_).encode(spec, {x, count, feedback, kept}, draw, frame);
  }

  void decode(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
              std::size_t bytes, float* into) override {
    known(stream);
    Codecs(machine_).decode(spec, count, frame, bytes, into);
  }

  void add(Stream stream, const Spec& spec, std::size_t count,
           std::span<const std::span<const std::byte>> frames, float factor, float* into) override {
    known(stream);
    Codecs(machine_).add(spec, count, frames, factor, into);
  }

  void clear(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
             std::size_t bytes, float* into) override {
    known(stream);
    Codecs(machine_).clear(spec, count, frame, bytes, into);
  }

  void blend(Stream stream, std::size_t count, float a, const float* x, float b, const float* y,
             float* into) override {
    known(stream);
    device::blend(machine_, {count, a, x, b, y, into});
  }

  void squares(Stream stream, const float* x, std::size_t count, double* into) override {
    known(stream);
    device::squares(machine_, x, count, into);
  }

  void clip(Stream stream, float* x, std::size_t count, double most) override {
    known(stream);
    device::clip(machine_, x, count, most);
  }

  void reduce(Stream stream, const Combine& how, std::span<const std::byte* const> from,
              std::span<std::byte* const> into, std::size_t count) override {
    known(stream);
    reduce_blocks(machine_, how.dtype, blocks_of(how, from, into, count));
  }

  void multiply_q(Stream stream, const Factored& shape, const float* m, const float* q,
                  float* p) override {
    known(stream);
    device::multiply_q(machine_, shape, m, q, p);
  }

  void multiply_p(Stream stream, const Factored& shape, const float* m, const float* p,
                  float* q) override {
    known(stream);
    device::multiply_p(machine_, shape, m, p, q);
  }

  void expand(Stream stream, const Factored& shape, const float* p, const float* q,
              float* m) override {
    known(stream);
    device::expand(machine_, shape, p, q, m);
  }

  void add_expanded(Stream stream, const Factored& shape, const float* p, const float* q,
                    float factor, float* m) override {
    known(stream);
    device::add_expanded(machine_, shape, p, q, factor, m);
  }

  void* allocate(std::size_t bytes, Stream stream) override {
    known(stream);
    return allocate_shared(bytes);
  }

  void* allocate_shared(std::size_t bytes) override {
    void* const memory = ::operator new(bytes, std::align_val_t(256));
    std::memset(memory, 0, bytes);
    return memory;
  }

  // A stream that is gone ends the process.
  void release(void* memory, const Stream* stream) noexcept override {
    if (stream != nullptr) known(*stream);
    ::operator delete(memory, std::align_val_t(256));
  }

  void zero(Stream stream, void* memory, std::size_t bytes) override {
    known(stream);
    machine_.zero(memory, bytes);
  }

  void copy(Stream stream, void* into, const void* from, std::size_t bytes) override {
    known(stream);
    machine_.copy(into, from, bytes);
  }

  void copy_rows(Stream stream, void* into, std::size_t into_step, const void* from,
                 std::size_t from_step, std::size_t bytes, std::size_t rows) override {
    known(stream);
    if (bytes > into_step || bytes > from_step) {
      throw Failure(FailureKind::config, "the GPU: copying rows: they overlap");
    }
    for (std::size_t row = 0; row < rows; ++row) {
      machine_.copy(static_cast<std::byte*>(into) + row * into_step,
                    static_cast<const std::byte*>(from) + row * from_step, bytes);
    }
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

  Stream make_stream() override {
    const std::scoped_lock lock(mutex_);
    streams_.insert(++last_);
    return last_;
  }

  void drop_stream(Stream stream) noexcept override {
    const std::scoped_lock lock(mutex_);
    streams_.erase(stream);
  }

  Event make_event(bool, bool) override {
    const std::scoped_lock lock(mutex_);
    events_[++last_] = {};
    return last_;
  }

  void drop_event(Event event) noexcept override {
    const std::scoped_lock lock(mutex_);
    events_.erase(event);
  }

  void record(Event event, Stream stream) override {
    known(stream);
    const std::scoped_lock lock(mutex_);
    events_.at(event) = Clock::now();
  }

  void follow(Stream stream, Event event) override {
    known(stream);
    const std::scoped_lock lock(mutex_);
    static_cast<void>(events_.at(event));
  }

  bool ready(Event event) override {
    const std::scoped_lock lock(mutex_);
    static_cast<void>(events_.at(event));
    return true;
  }

  bool wait(Event event, double) override { return ready(event); }

  double seconds_between(Event from, Event to) override {
    const std::scoped_lock lock(mutex_);
    return std::chrono::duration<double>(events_.at(to) - events_.at(from)).count();
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

  // Events of others are past when one hears of them.
  std::string share_event(Event event) override { return "event " + std::to_string(event); }
  Event see_event(const std::string& handle) override {
    if (!handle.starts_with("event ")) {
      throw Failure(FailureKind::config, "this is no handle of an event");
    }
    return make_event(true, false);
  }

 private:
  // 0 is the stream that every program has.
  void known(Stream stream) {
    const std::scoped_lock lock(mutex_);
    if (stream > 2 && !streams_.contains(stream)) {
      throw Failure(FailureKind::config, "the GPU: there is no such stream");
    }
  }

  const int number_;
  HostMachine machine_;
  std::mutex mutex_;
  std::uintptr_t last_ = 100;
  std::set<void*> pinned_;
  std::set<Stream> streams_;
  std::map<Event, Clock::time_point> events_;
  std::map<void*, std::size_t> seen_;
};

}  // namespace

int device_count(std::string&) { return 2; }

std::unique_ptr<Device> open_device(int number) {
  if (number < 0 || number > 1) throw Failure(FailureKind::config, "there is no such GPU");
  return std::make_unique<HostDevice>(number);
}

}  // namespace mls::device
