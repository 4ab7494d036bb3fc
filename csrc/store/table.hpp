// What dense arrays and tables of rows have in common: entries (elements or slots) that know when
// they were last changed, and snapshots of them.
//
// A granule of entries has the version at which it was last written. A block, of granules, is what
// is copied aside where it is written while a snapshot has still to give it out (snapshot.hpp).
//
// A table stays where it is. It belongs to one thread, and so do its snapshots.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "store/memory.hpp"
#include "store/range.hpp"
#include "store/snapshot.hpp"
#include "store/watch.hpp"

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

  // Whole granules that were written at a later version than this, ascending; neighbours are one
  // range.
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

  // Memory when all of it was touched; without what snapshots hold.
  virtual std::uint64_t bytes() const = 0;

 protected:
  // Granules and blocks of 2^bits entries.
  Table(std::uint64_t entries, unsigned granule_bits, unsigned block_bits);

  // Must be called before an entry is written.
  void about_to_write(std::uint64_t entry) {
    if (!watched_.empty()) keep(entry >> block_bits_);
    versions()[entry >> granule_bits_] = version_;
  }

  // Calls write(part) for the part in each block of a range.
  template <class Write>
  void write_blocks(Range range, Write write) {
    while (range.length != 0) {
      const std::uint64_t block = range.start >> block_bits_;
      const std::uint64_t end = std::min((block + 1) << block_bits_, range.end());
      if (!watched_.empty()) keep(block);
      std::fill(versions() + (range.start >> granule_bits_),
                versions() + ((end - 1) >> granule_bits_) + 1, version_);
      write(Range{range.start, end - range.start});
      range = {end, range.end() - end};
    }
  }

  void prefetch_version(std::uint64_t entry) const {
    __builtin_prefetch(versions() + (entry >> granule_bits_), 1);
  }
  std::uint64_t version_bytes() const { return versions_.bytes(); }

 private:
  friend class Watch;

  std::uint32_t* versions() { return versions_.as<std::uint32_t>(); }
  const std::uint32_t* versions() const { return versions_.as<std::uint32_t>(); }

  void keep(std::uint64_t block) {
    for (Watch* const watch : watched_) watch->keep(block);
  }

  // The entries of blocks [first, end).
  Range blocks(std::uint64_t first, std::uint64_t end) const {
    const std::uint64_t start = first << block_bits_;
    return {start, std::min(end << block_bits_, entries_) - start};
  }
  std::uint64_t blocks_of_granules(std::uint64_t granules) const {
    return std::max<std::uint64_t>(granules >> (block_bits_ - granule_bits_), 1);
  }

  // Calls found(range) for granules in this range, which starts with one, that are of a later
  // version; neighbours are one range.
  template <class Found>
  void changed_in(Range range, std::uint32_t version, Found found) const {
    if (range.length == 0) return;
    const std::uint64_t end = ((range.end() - 1) >> granule_bits_) + 1;
    std::uint64_t at = range.start >> granule_bits_;
    while ((at = next_granule(at, end, version, true)) < end) {
      const std::uint64_t start = at << granule_bits_;
      at = next_granule(at, end, version, false);
      found(Range{start, std::min(at << granule_bits_, range.end()) - start});
    }
  }

  // The next granule of [first, end) that is of a later version, or is not; `end` for none.
  std::uint64_t next_granule(std::uint64_t first, std::uint64_t end, std::uint32_t version,
                             bool later) const;

  std::uint64_t entries_;
  unsigned granule_bits_;
  unsigned block_bits_;
  std::uint32_t version_ = 0;
  Memory versions_;  // uint32 per granule
  std::vector<Watch*> watched_;
};

}  // namespace mls
