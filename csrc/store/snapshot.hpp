// A table as it was at one moment, given out piece by piece while it goes on changing.
//
// Before a block is written that was not given out yet, the table copies what is wanted of it
// aside; it is dropped once given out. So a snapshot needs memory only for what is written
// meanwhile, and an update never waits for more than one copy per block that it writes. A piece is
// about 64 KiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "store/range.hpp"

namespace mls {

class Table;
struct Watch;  // what a snapshot and its table both know

enum class Contents : std::uint8_t { parameters, all };  // all: with the optimiser's state

struct SnapshotOptions {
  Contents contents = Contents::parameters;
  std::optional<std::uint32_t> since = {};  // only what may have changed after this version
};

struct Piece {
  std::vector<Range> ranges;  // entries, ascending; may be none
  std::vector<float> values;  // of range after range, as Table::save writes them
};

class Snapshot {
 public:
  Snapshot(Snapshot&&) noexcept;
  Snapshot& operator=(Snapshot&&) noexcept;
  ~Snapshot();  // lets go of what it holds

  // The next piece, in ascending order; false when all were given out. Throws std::logic_error
  // where the table is gone.
  bool next(Piece& piece);

  std::uint64_t held_bytes() const;  // copied aside by now

 private:
  friend class Table;
  explicit Snapshot(std::shared_ptr<Watch> watch);

  std::shared_ptr<Watch> watch_;
};

}  // namespace mls
