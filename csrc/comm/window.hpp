// Arrays in memory that the ranks of a machine share: each has a block, and sees those of all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "comm/mapping.hpp"

namespace mls {

class Window : public std::enable_shared_from_this<Window> {
 public:
  // Null on all ranks where memory cannot be shared. Collective.
  static std::shared_ptr<Window> make(Transport& transport, std::size_t block_bytes,
                                      const Options& options);
  // Over memory of bytes_for() that the ranks have shared already.
  static std::shared_ptr<Window> over(std::shared_ptr<Mapping> memory, int rank,
                                      std::size_t block_bytes);
  static std::size_t bytes_for(int size, std::size_t block_bytes);
  ~Window();
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  const Mapping& memory() const { return *memory_; }
  std::span<std::byte> mine() const { return {block(rank_), block_bytes_}; }
  std::byte* block(int rank) const {
    return memory_->data() + static_cast<std::size_t>(rank) * stride_;
  }

 private:
  Window(std::shared_ptr<Mapping> memory, int rank, std::size_t block_bytes);

  const std::shared_ptr<Mapping> memory_;
  const int rank_;
  const std::size_t block_bytes_;
  const std::size_t stride_;
};

// Where in this process's own blocks the bytes lie; no window when they lie elsewhere.
struct Place {
  std::shared_ptr<Window> window;
  std::uint64_t offset = 0;  // in the memory of all ranks
};
Place place_of(std::span<const std::byte> bytes);

}  // namespace mls
