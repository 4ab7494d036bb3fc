// What dense arrays and tables of rows have in common: entries (elements or slots) that know when
// they were last changed, and snapshots of them.
//
// A granule of entries has the version at which it was last written. A block is what is copied
// aside when it is written while a snapshot has still to give it out (snapshot.hpp).
//
// A table stays where it is. It belongs to one thread, and so do its snapshots.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/memory.hpp"
#include "store/range.hpp"
#include "store/snapshot.hpp"

namespace mls {

class Table {
 public:
  virtual ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  std::uint64_t entries() const { return entries_; }

  // What is written from now on is of this version; 0 at first.
  void at_version(std::uint32_t version) { version_ = version; }
  std::uint32_t version() const { return version_; }

  // Entries that may have been written at a later version than this, ascending. Not those next to
  // each other apart.
  std::vector<Range> changed_since(std::uint32_t version) const;

  // The table as it is now, to be read piece by piece while it changes.
  Snapshot snapshot(const SnapshotOptions& options = {});

  // Floats of one entry.
  virtual std::size_t floats(Contents contents) const = 0;

  // Copies a range of entries out. Rows: slot after slot, its parameters and then its state (per
  // element, then per row). Dense: the parameters of the range, then each state array of it.
  virtual void save(Range range, Contents contents, float* into) const = 0;

  // What was saved with Contents::all, back.
  virtual void load(Range range, const float* from) = 0;

  // Of everything but what snapshots hold.
  virtual std::uint64_t bytes() const = 0;

 protected:
  // Granules and blocks of 2^bits entries.
  Table(std::uint64_t entries, unsigned granule_bits, unsigned block_bits);

  // Must be called before entries of one block are written.
  void about_to_write(std::uint64_t first, std::uint64_t last) {
    if (!watched_.empty()) keep(first >> block_bits_);
    std::uint32_t* const versions = versions_.as<std::uint32_t>();
    std::fill(versions + (first >> granule_bits_), versions + (last >> granule_bits_) + 1,
              version_);
  }

  unsigned block_bits() const { return block_bits_; }
  std::uint64_t version_bytes() const { return versions_.bytes(); }
  void prefetch_version(std::uint64_t entry) const {
    __builtin_prefetch(versions_.as<std::uint32_t>() + (entry >> granule_bits_), 1);
  }

 private:
  friend class Snapshot;

  void keep(std::uint64_t block);

  std::uint64_t entries_;
  unsigned granule_bits_;
  unsigned block_bits_;
  std::uint32_t version_ = 0;
  Memory versions_;  // uint32 per granule
  std::vector<std::shared_ptr<Watch>> watched_;
};

}  // namespace mls
