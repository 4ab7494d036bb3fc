// Rows that many workers read, which all servers have: each of them has such a row at the place
// that it has in the partition, if it is its own, or else behind its share. Pulls of it are spread
// over the servers, pushes of it go to all. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "store/partition.hpp"

namespace mls {

class Replicas {
 public:
  // hot: ascending.
  Replicas(const RowPartition& partition, const std::vector<std::uint64_t>& hot);

  // Which of the hot rows this is.
  std::optional<std::size_t> find(std::uint64_t row) const;

  // Where a server has it.
  std::uint64_t slot(std::size_t which, std::uint32_t server) const {
    return slots_[server][which];
  }

  // The server that answers a worker's pulls of it.
  std::uint32_t reads_from(std::size_t which, int worker) const;

  // The rows that a server has behind its share, in the order of their slots.
  const std::vector<std::uint64_t>& behind(std::uint32_t server) const { return behind_[server]; }

 private:
  std::vector<Home> homes_;                         // of the hot rows
  std::vector<std::vector<std::uint64_t>> slots_;   // by server
  std::vector<std::vector<std::uint64_t>> behind_;  // by server
  std::unordered_map<std::uint64_t, std::size_t> which_;
};

}  // namespace mls
