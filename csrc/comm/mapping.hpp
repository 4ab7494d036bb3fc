// Memory that processes of one machine share, without a name that could be left behind.
//
// Rank 0 makes an anonymous file in memory (memfd); the others open it through /proc and map it.
// It goes when the last process unmaps it or ends, however it ends, and is not limited by the size
// of /dev/shm, which is 64 MiB in many containers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/collectives.hpp"

namespace mls {

class Mapping {
 public:
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  // The same in all processes, and no other one's on this machine.
  std::uint32_t number() const { return number_; }

 private:
  friend std::shared_ptr<Mapping> share_memory(Transport&, std::size_t, const Options&);
  Mapping(std::byte* data, std::size_t size, std::uint32_t number)
      : data_(data), size_(size), number_(number) {}

  std::byte* data_;
  std::size_t size_;
  std::uint32_t number_;
};

// The same zeroed memory on all ranks, aligned to pages; null on all where any rank cannot map it,
// such as on several machines. Collective.
std::shared_ptr<Mapping> share_memory(Transport& transport, std::size_t bytes,
                                      const Options& options);

}  // namespace mls
