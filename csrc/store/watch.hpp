// What a table knows of one of its snapshots: which blocks were given out, and those copied aside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "store/memory.hpp"
#include "store/snapshot.hpp"

namespace mls {

class Watch {
 public:
  Watch(Table& table, const SnapshotOptions& options, std::uint64_t blocks);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // Called before a block is written.
  void keep(std::uint64_t block) {
    if (block >= next_ && places()[block] == 0) copy_aside(block);
  }

  bool next(Piece& piece);
  void table_is_gone() { table_ = nullptr; }
  std::uint64_t held_bytes() const { return held_; }

 private:
  // What is wanted of a block, as it was; it may be nothing.
  struct Kept {
    std::vector<Range> ranges;
    std::unique_ptr<float[]> values;
    std::uint64_t bytes = 0;
  };

  std::uint32_t* places() { return places_.as<std::uint32_t>(); }
  void copy_aside(std::uint64_t block);
  void give_kept(std::uint64_t block, Piece& piece);
  void give(std::uint64_t first, std::uint64_t end, Piece& piece) const;
  std::vector<Range> wanted(std::uint64_t first, std::uint64_t end) const;
  void leave();

  Table* table_;  // none once all is given out, or where it is gone
  SnapshotOptions options_;
  std::uint64_t blocks_;
  std::uint64_t next_ = 0;  // block to be given out next
  Memory places_;           // of each block in kept_, from 1; 0 before it is written
  std::deque<Kept> kept_;
  std::vector<std::uint32_t> free_;  // places of what was given out
  std::uint64_t held_ = 0;           // bytes of what was not
};

}  // namespace mls
