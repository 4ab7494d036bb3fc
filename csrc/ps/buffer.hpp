// Memory for messages that is used again, so that its pages stay warm; large, where there is much
// of it, as kernels copy between processes page by page. One thread.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace mls {

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

struct Buffer {
  std::unique_ptr<std::byte[], Free> memory;
  std::size_t capacity = 0;
  std::size_t size = 0;
  std::size_t start = 0;  // of what is in it

  std::span<std::byte> bytes() const { return {memory.get() + start, size}; }
  std::span<float> floats() const {
    return {reinterpret_cast<float*>(memory.get() + start), size / sizeof(float)};
  }
};

// Where an address lies in its cache line.
inline constexpr std::size_t kLine = 64;
inline std::size_t in_line(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kLine;
}

class Pool {
 public:
  // Not initialised. It lies in its cache line as what it is copied from or to lies in its own, at
  // `lines_up` (a number below 64): a kernel's copy between processes takes up to four times as
  // long where the target lies less than 32 bytes further on (`rep movsb` on AMD's Zen; glibc bug
  // 30994).
  Buffer take(std::size_t size, std::size_t lines_up = 0) {
    if (lines_up > 0) {
      Buffer found = take(size + kLine);
      found.size = size;
      found.start = lines_up;
      return found;
    }
    for (std::size_t i = 0; i < free_.size(); ++i) {
      if (free_[i].capacity < size || free_[i].capacity / 4 > size + kSmall) continue;
      Buffer found = std::move(free_[i]);
      free_[i] = std::move(free_.back());
      free_.pop_back();
      found.size = size;
      found.start = 0;
      return found;
    }
    const std::size_t unit = size < kLarge ? kSmall : kLargePage;
    const std::size_t capacity = size == 0 ? unit : (size - 1) / unit * unit + unit;
    if (capacity < size) throw std::bad_alloc();
    void* const memory = std::aligned_alloc(unit, capacity);
    if (memory == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (unit == kLargePage) madvise(memory, capacity, MADV_HUGEPAGE);  // a wish
#endif
    Buffer made;
    made.memory.reset(static_cast<std::byte*>(memory));
    made.capacity = capacity;
    made.size = size;
    return made;
  }

  void give(Buffer buffer) {
    if (buffer.memory && free_.size() < kKept) free_.push_back(std::move(buffer));
  }

 private:
  static constexpr std::size_t kSmall = 4096;
  static constexpr std::size_t kLarge = 1 << 20;
  static constexpr std::size_t kLargePage = 2 << 20;
  static constexpr std::size_t kKept = 64;

  std::vector<Buffer> free_;
};

}  // namespace mls
