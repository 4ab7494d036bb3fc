// Memory for messages that is used again, so that its pages stay warm; large, where there is much
// of it, as kernels copy between processes page by page. One thread.
#pragma once

#include <sys/mman.h>

#include <cstddef>
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

class Pool {
 public:
  // Not initialised. start: of what is in it, a number below 64; see lines.hpp.
  Buffer take(std::size_t size, std::size_t start = 0) {
    if (start > 0) {
      Buffer found = take(size + 64);
      found.size = size;
      found.start = start;
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
