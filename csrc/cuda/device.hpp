// One GPU, or its stand-in on the host, as the bindings see it. No header of CUDA.
//
// Everything is in the order of a stream and waits for nothing, except `wait`, `allocate_shared`,
// `release` and `open_device`.
// Addresses are of the device's memory unless said otherwise. Errors of CUDA are Failures that
// name the call: of kind config.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/reduce.hpp"
#include "codec/codec.hpp"
#include "comm/compressor.hpp"

namespace mls::device {

using Stream = std::uintptr_t;  // a cudaStream_t
using Event = std::uintptr_t;   // a cudaEvent_t

// Row-major; P and Q are column by column.
struct Factored {
  std::size_t rows;
  std::size_t cols;
  std::size_t rank;
};

struct DeviceInfo {
  std::string name;
  std::string uuid;  // 16 bytes
  int number = 0;
  int count = 0;  // of devices
  int major = 0;  // compute capability
  int minor = 0;
  std::size_t memory = 0;  // bytes
  int driver = 0;          // 13000 for 13.0
  int runtime = 0;
  std::vector<int> peers;  // devices whose memory it can read
};

// What another process needs to see memory: the allocation's handle, and where in it. Handles may
// be those of an allocation that is gone; ids are not, within a process.
struct Shared {
  std::string handle;
  std::size_t offset = 0;
  std::uint64_t id = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual DeviceInfo info() = 0;

  virtual void encode(Stream stream, const Spec& spec, const float* x, std::size_t count,
                      Feedback feedback, float* kept, Draw draw, std::byte* frame) = 0;
  // into[i] = decoded[i]; or += factor * decoded[i] of one frame after the other.
  virtual void decode(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
                      std::size_t bytes, float* into) = 0;
  virtual void add(Stream stream, const Spec& spec, std::size_t count,
                   std::span<const std::span<const std::byte>> frames, float factor,
                   float* into) = 0;
  // into[i] = 0 for the elements that a frame of a sparse codec names.
  virtual void clear(Stream stream, const Spec& spec, std::size_t count, const std::byte* frame,
                     std::size_t bytes, float* into) = 0;
  // into[i] = a x[i] + b y[i]
  virtual void blend(Stream stream, std::size_t count, float a, const float* x, float b,
                     const float* y, float* into) = 0;
  // The sum of the squares, see base/squares.hpp; into: aligned to 8 bytes.
  virtual void squares(Stream stream, const float* x, std::size_t count, double* into) = 0;
  // Makes the norm of x at most this.
  virtual void clip(Stream stream, float* x, std::size_t count, double most) = 0;
  virtual void reduce(Stream stream, const Combine& how, std::span<const std::byte* const> from,
                      std::span<std::byte* const> into, std::size_t count) = 0;

  // PowerSGD, see codec/low_rank.hpp: P = M Q; Q = M^T P; M = P Q^T, or += factor * P Q^T.
  virtual void multiply_q(Stream stream, const Factored& shape, const float* m, const float* q,
                          float* p) = 0;
  virtual void multiply_p(Stream stream, const Factored& shape, const float* m, const float* p,
                          float* q) = 0;
  virtual void expand(Stream stream, const Factored& shape, const float* p, const float* q,
                      float* m) = 0;
  virtual void add_expanded(Stream stream, const Factored& shape, const float* p, const float* q,
                            float factor, float* m) = 0;

  // Zeros at first: after what is on the stream; or at once, and it can be shared.
  virtual void* allocate(std::size_t bytes, Stream stream) = 0;
  virtual void* allocate_shared(std::size_t bytes) = 0;
  // What was allocated after what is on a stream is given back so, too.
  virtual void release(void* memory, const Stream* stream) noexcept = 0;
  virtual void zero(Stream stream, void* memory, std::size_t bytes) = 0;

  // Between any two of host and device.
  virtual void copy(Stream stream, void* into, const void* from, std::size_t bytes) = 0;

  // Rows of so many bytes, whose starts are so many bytes apart. Within the device.
  virtual void copy_rows(Stream stream, void* into, std::size_t into_step, const void* from,
                         std::size_t from_step, std::size_t bytes, std::size_t rows) = 0;

  // Host memory that copies go from and to without a detour.
  virtual void pin(void* memory, std::size_t bytes) = 0;
  virtual void unpin(void* memory) = 0;

  virtual Stream make_stream() = 0;
  virtual void drop_stream(Stream stream) noexcept = 0;

  virtual Event make_event(bool shared, bool timed) = 0;
  virtual void drop_event(Event event) noexcept = 0;
  virtual void record(Event event, Stream stream) = 0;
  virtual void follow(Stream stream, Event event) = 0;  // the stream waits
  virtual bool ready(Event event) = 0;
  virtual bool wait(Event event, double seconds) = 0;        // the caller waits
  virtual double seconds_between(Event from, Event to) = 0;  // of timed ones, after both

  // Memory and events of other processes on this machine.
  virtual Shared share(const void* memory) = 0;
  virtual void* see(const std::string& handle) = 0;
  virtual void unsee(void* memory) noexcept = 0;
  virtual std::string share_event(Event event) = 0;
  virtual Event see_event(const std::string& handle) = 0;
};

// How many there are; where none, why.
int device_count(std::string& why);

std::unique_ptr<Device> open_device(int number);

}  // namespace mls::device
