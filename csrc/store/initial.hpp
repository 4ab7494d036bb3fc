// First values of the rows of a table: functions of (seed, row, column) alone, so that a table is
// the same whatever the number of servers.
#pragma once

#include <cstdint>
#include <span>

namespace mls {

struct Initial {
  enum class Kind : std::uint8_t { zeros, uniform, normal };

  Kind kind = Kind::zeros;
  float scale = 0;  // uniform: in [-scale, scale); normal: its standard deviation
  std::uint64_t seed = 0;
};

// The columns of one row.
void initial_row(const Initial& initial, std::uint64_t row, std::span<float> into);

}  // namespace mls
