// Memory for messages that is used again, so that its pages stay warm. One thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace mls {

struct Buffer {
  std::unique_ptr<std::byte[]> memory;
  std::size_t capacity = 0;
  std::size_t size = 0;

  std::span<std::byte> bytes() const { return {memory.get(), size}; }
  std::span<float> floats() const {
    return {reinterpret_cast<float*>(memory.get()), size / sizeof(float)};
  }
};

class Pool {
 public:
  // Not initialised.
  Buffer take(std::size_t size) {
    for (std::size_t i = 0; i < free_.size(); ++i) {
      if (free_[i].capacity < size || free_[i].capacity / 4 > size + kSmall) continue;
      Buffer found = std::move(free_[i]);
      free_[i] = std::move(free_.back());
      free_.pop_back();
      found.size = size;
      return found;
    }
    const std::size_t capacity = size < kSmall ? kSmall : size;
    return {std::unique_ptr<std::byte[]>(new std::byte[capacity]), capacity, size};
  }

  void give(Buffer buffer) {
    if (buffer.memory && free_.size() < kKept) free_.push_back(std::move(buffer));
  }

 private:
  static constexpr std::size_t kSmall = 4096;
  static constexpr std::size_t kKept = 64;

  std::vector<Buffer> free_;
};

}  // namespace mls
