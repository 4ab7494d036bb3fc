// What a table knows of one of its snapshots: which blocks were given out, and those copied aside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

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
    if (block >= next_ && !written_[block]) copy_aside(block);
  }

  bool next(Piece& piece);
  void table_is_gone() { table_ = nullptr; }
  std::uint64_t held_bytes() const { return held_; }

 private:
  void copy_aside(std::uint64_t block);
  void give_kept(std::uint64_t block, Piece& piece);
  void copy(std::uint64_t first, std::uint64_t end, Piece& piece) const;
  void leave();

  Table* table_;  // none once all is given out, or where it is gone
  SnapshotOptions options_;
  std::uint64_t blocks_;
  std::uint64_t next_ = 0;     // block to be given out next
  std::vector<bool> written_;  // since the snapshot's moment
  std::unordered_map<std::uint64_t, Piece> aside_;
  std::uint64_t held_ = 0;  // bytes of it
};

}  // namespace mls
