// One server's share of all tables: it takes pushes in and says when pulls may be answered. Pure:
// no messages, no clock.
//
// Guarantees: a push is applied as a whole or not at all, and once: steps are numbered. With bsp a
// step is applied when the pushes of all workers are there, summed in the order of the workers,
// whatever the order in which they came.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ps/buffer.hpp"
#include "ps/clocks.hpp"
#include "ps/table.hpp"
#include "store/dense.hpp"
#include "store/rows.hpp"

namespace mls {

// What tables call the state after so many updates.
inline std::uint32_t version_of(std::uint64_t updates) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(updates, std::numeric_limits<std::uint32_t>::max()));
}

// A worker's gradients of a step.
struct Push {
  std::uint64_t step = 0;
  float rate = 0;                         // learning rate
  std::vector<std::uint32_t> slots = {};  // of rows; ones that the table has
  Buffer values = {};                     // of the whole share, or width floats for each slot
};

class Shard {
 public:
  // Called with a range of a dense table as soon as it has its new values.
  using Updated = std::function<void(Range)>;

  // A push that is far ahead of the slowest worker's would need memory without a limit.
  static constexpr std::uint64_t kAhead = 64;

  Shard(std::vector<TableSpec> tables, int workers, std::uint32_t server, std::uint32_t servers);

  std::size_t tables() const { return tables_.size(); }
  const TableSpec& spec(std::size_t table) const { return tables_[table].spec; }
  Clocks& clocks(std::size_t table) { return tables_[table].clocks; }

  // Elements or slots of this share, with rows behind it that all servers have; and without.
  std::uint64_t count(std::size_t table) const { return tables_[table].count; }
  std::uint64_t own(std::size_t table) const { return tables_[table].own; }

  // Floats of a push of so many elements or slots.
  std::uint64_t floats(std::size_t table, std::uint64_t count) const {
    return count * spec(table).width;
  }

  Dense& dense(std::size_t table) { return *tables_[table].dense; }
  Rows& rows(std::size_t table) { return *tables_[table].rows; }

  // Takes in the worker's next push of a table.
  void push(std::size_t table, int worker, Push push, const Updated& updated);

  // Nobody waits for this worker any more.
  void leave(int worker, const Updated& updated);

  // Whether the next push of this worker completes a step of a table with bsp.
  bool completes(std::size_t table, int worker) const;

  // Updates that a table has had; the optimiser counts them.
  std::uint64_t updates(std::size_t table) const { return tables_[table].updates; }
  void resume_at(std::size_t table, std::uint64_t updates, std::uint64_t steps);

  Pool& pool() { return pool_; }

 private:
  // The pushes of one step with bsp.
  struct Gathered {
    std::vector<std::optional<Push>> pushes;  // by worker
    int added = 0;                            // workers whose dense values are in `sum`
    std::optional<Push> sum;
  };

  struct Share {
    TableSpec spec;
    std::uint64_t count;
    std::uint64_t own;
    Clocks clocks;
    std::unique_ptr<Dense> dense;
    std::unique_ptr<Rows> rows;
    std::uint64_t updates = 0;
    std::deque<Gathered> steps = {};  // from clocks.applied() on
  };

  void add_up(Share& table, Gathered& step);
  void complete(Share& table, const Updated& updated);
  void apply(Share& table, Push& push, const Updated& updated);
  bool whole(const Share& table, const Gathered& step) const;

  const int workers_;
  std::vector<Share> tables_;
  Pool pool_;
};

}  // namespace mls
