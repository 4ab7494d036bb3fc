#include "store/snapshot.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "store/table.hpp"
#include "store/watch.hpp"

namespace mls {
namespace {

// Granules whose versions are looked at for one piece at most, so that a call stays short where
// little has changed.
constexpr std::uint64_t kMostGranules = 64 * 1024;

// Entries of one piece follow each other in it, except those of a Dense, which has one block in it.
void append(Range range, std::vector<Range>& ranges) {
  if (!ranges.empty() && ranges.back().end() == range.start) {
    ranges.back().length += range.length;
  } else {
    ranges.push_back(range);
  }
}

}  // namespace

Watch::Watch(Table& table, const SnapshotOptions& options, std::uint64_t blocks)
    : table_(&table), options_(options), blocks_(blocks), places_(blocks * sizeof(std::uint32_t)) {
  table.watched_.push_back(this);
}

Watch::~Watch() { leave(); }

void Watch::leave() {
  if (table_ != nullptr) std::erase(table_->watched_, this);
  table_ = nullptr;
}

std::vector<Range> Watch::wanted(std::uint64_t first, std::uint64_t end) const {
  const Range all = table_->blocks(first, end);
  if (!options_.since) return {all};
  std::vector<Range> changed;
  table_->changed_in(all, *options_.since, [&](Range range) { changed.push_back(range); });
  return changed;
}

void Watch::copy_aside(std::uint64_t block) {
  const std::size_t floats = table_->floats(options_.contents);
  Kept kept;
  kept.ranges = wanted(block, block + 1);
  std::uint64_t entries = 0;
  for (const Range range : kept.ranges) entries += range.length;
  kept.values = std::make_unique_for_overwrite<float[]>(entries * floats);
  kept.bytes = entries * floats * sizeof(float) + kept.ranges.size() * sizeof(Range);
  float* into = kept.values.get();
  for (const Range range : kept.ranges) {
    table_->save(range, options_.contents, into);
    into += range.length * floats;
  }
  held_ += kept.bytes;
  if (free_.empty()) {
    kept_.push_back(std::move(kept));
    places()[block] = static_cast<std::uint32_t>(kept_.size());
  } else {
    places()[block] = free_.back();
    kept_[free_.back() - 1] = std::move(kept);
    free_.pop_back();
  }
}

void Watch::give_kept(std::uint64_t block, Piece& piece) {
  const std::uint32_t place = places()[block];
  const Kept kept = std::exchange(kept_[place - 1], {});
  free_.push_back(place);
  held_ -= kept.bytes;
  const float* from = kept.values.get();
  for (const Range range : kept.ranges) {
    const std::size_t count = range.length * table_->floats(options_.contents);
    piece.values.insert(piece.values.end(), from, from + count);
    append(range, piece.ranges);
    from += count;
  }
}

void Watch::give(std::uint64_t first, std::uint64_t end, Piece& piece) const {
  for (const Range range : wanted(first, end)) {
    const std::size_t before = piece.values.size();
    piece.values.resize(before + range.length * table_->floats(options_.contents));
    table_->save(range, options_.contents, piece.values.data() + before);
    append(range, piece.ranges);
  }
}

bool Watch::next(Piece& piece) {
  piece.ranges.clear();
  piece.values.clear();
  if (next_ == blocks_) return false;
  if (table_ == nullptr) throw std::logic_error("the table of a snapshot is gone");
  const std::size_t floats = table_->blocks(0, 1).length * table_->floats(options_.contents);
  const std::uint64_t together = std::max<std::uint64_t>(kPieceFloats / floats, 1);
  const std::uint64_t last = std::min(blocks_, next_ + table_->blocks_of_granules(kMostGranules));
  while (next_ < last && piece.values.size() < kPieceFloats) {
    std::uint64_t end = next_;
    while (end < std::min(last, next_ + together) && places()[end] == 0) ++end;
    if (end > next_) {
      give(next_, end, piece);
      next_ = end;
    } else {
      give_kept(next_++, piece);
    }
  }
  if (next_ == blocks_) leave();
  return true;
}

Snapshot::Snapshot(std::unique_ptr<Watch> watch) : watch_(std::move(watch)) {}
Snapshot::Snapshot(Snapshot&&) noexcept = default;
Snapshot& Snapshot::operator=(Snapshot&&) noexcept = default;
Snapshot::~Snapshot() = default;

bool Snapshot::next(Piece& piece) { return watch_->next(piece); }

std::uint64_t Snapshot::held_bytes() const { return watch_->held_bytes(); }

}  // namespace mls
