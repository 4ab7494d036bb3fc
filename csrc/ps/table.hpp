// The tables that the servers hold, as all ranks of a job have agreed on them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "ps/replicas.hpp"
#include "store/initial.hpp"
#include "store/partition.hpp"
#include "store/rule.hpp"

namespace mls {

// What a worker may see of what the others have pushed.
//   bsp  each step sees all updates of the step before, and no others
//   ssp  a worker is at most so many steps ahead of the slowest (Ho et al. 2013)
//   asp  whatever is there (Recht et al. 2011)
enum class Consistency : std::uint8_t { bsp, ssp, asp };

struct TableSpec {
  enum class Kind : std::uint8_t { dense, rows };

  std::string name;
  Kind kind = Kind::dense;
  std::uint64_t count = 0;  // elements of a dense table, or rows
  std::uint32_t width = 1;  // floats in a row
  Rule rule = {};
  Consistency consistency = Consistency::bsp;
  std::uint32_t staleness = 0;                           // of ssp
  std::vector<Range> decayed = {};                       // dense: what weight decay applies to
  RowPartition::Kind spread = RowPartition::Kind::hash;  // rows
  Initial initial = {};                                  // rows: their first values
  std::vector<std::uint64_t> hot = {};                   // rows that all servers have, ascending
  std::uint32_t urgency = 0;                             // of what is sent at the same time
  Spec codec = {};                                       // of what travels; none: float32
  bool feedback = true;                                  // dense: on pushes

  RowPartition rows(std::uint32_t servers) const {
    return {.rows = count, .servers = servers, .kind = spread, .seed = initial.seed};
  }
  Replicas replicas(std::uint32_t servers) const { return {rows(servers), hot}; }
};

}  // namespace mls
