// Which server has what, as integer arithmetic that every rank can do on its own.
//
//   dense  contiguous ranges of elements that differ by one granule at most
//   range  contiguous ranges of rows that differ by one row at most
//   hash   row -> a pseudo-random permutation p of all rows -> server p % servers, slot p /
//   servers:
//          frequent rows are spread, servers differ by one row at most, no memory is needed
//
// The permutation is a Feistel network of 4 rounds over a product of two ranges that is hardly
// larger than the rows, walked along its cycle until it is a row (Black, Rogaway 2002, "Ciphers
// with arbitrary finite domains", methods 2 and 3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "store/range.hpp"

namespace mls {

inline constexpr std::uint64_t kGranule = 16;  // float32 of a cache line

// The elements of a dense array that this server has.
Range dense_range(std::uint64_t count, std::uint32_t servers, std::uint32_t server);

// Where a row is.
struct Home {
  std::uint32_t server = 0;
  std::uint64_t slot = 0;

  constexpr bool operator==(const Home&) const = default;
};

struct RowPartition {
  enum class Kind : std::uint8_t { range, hash };

  std::uint64_t rows = 0;
  std::uint32_t servers = 1;
  Kind kind = Kind::hash;
  std::uint64_t seed = 0;

  Home home(std::uint64_t row) const;   // row < rows
  std::uint64_t row(Home place) const;  // slot < slots(server)
  std::uint64_t slots(std::uint32_t server) const;
};

// The places of many rows; as many as `out` has. Faster than one at a time.
void homes(const RowPartition& partition, std::span<const std::uint64_t> rows, std::span<Home> out);

}  // namespace mls
