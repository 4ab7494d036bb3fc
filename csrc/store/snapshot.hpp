// A table as it was at one moment, given out piece by piece while it goes on changing.
//
// Before a block is written that was not given out yet, the table copies what is wanted of it
// aside; that is dropped once given out. So a snapshot needs memory only for what is written
// meanwhile, and an update never waits for more than one copy per block that it writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "store/range.hpp"

namespace mls {

class Table;
class Watch;

enum class Contents : std::uint8_t { parameters, all };  // all: with the optimiser's state

struct SnapshotOptions {
  Contents contents = Contents::parameters;
  std::optional<std::uint32_t> since = {};  // only what may have changed after this version
};

struct Piece {
  std::vector<Range> ranges;  // entries, ascending; may be none
  std::vector<float> values;  // of range after range, as Table::save writes them
};

// Floats of a piece after which no further block is added to it.
inline constexpr std::size_t kPieceFloats = 16 * 1024;

class Snapshot {
 public:
  explicit Snapshot(std::unique_ptr<Watch> watch);
  Snapshot(Snapshot&&) noexcept;
  Snapshot& operator=(Snapshot&&) noexcept;
  ~Snapshot();  // lets go of what it holds

  // The next piece, in ascending order; false when all were given out. Throws std::logic_error
  // where the table is gone.
  bool next(Piece& piece);

  std::uint64_t held_bytes() const;  // copied aside at present

 private:
  std::unique_ptr<Watch> watch_;
};

}  // namespace mls
