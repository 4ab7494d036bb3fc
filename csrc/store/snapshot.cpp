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

std::uint64_t bytes_of(const Piece& piece) {
  return piece.ranges.size() * sizeof(Range) + piece.values.size() * sizeof(float);
}

// Entries of one piece follow each other in it, except those of a Dense, which has one block in it.
void append(Range range, Piece& piece) {
  if (!piece.ranges.empty() && piece.ranges.back().end() == range.start) {
    piece.ranges.back().length += range.length;
  } else {
    piece.ranges.push_back(range);
  }
}

void append(const Piece& from, Piece& piece) {
  for (const Range range : from.ranges) append(range, piece);
  piece.values.insert(piece.values.end(), from.values.begin(), from.values.end());
}

}  // namespace

Watch::Watch(Table& table, const SnapshotOptions& options, std::uint64_t blocks)
    : table_(&table), options_(options), blocks_(blocks), written_(blocks) {
  table.watched_.push_back(this);
}

Watch::~Watch() { leave(); }

void Watch::leave() {
  if (table_ != nullptr) std::erase(table_->watched_, this);
  table_ = nullptr;
}

void Watch::copy_aside(std::uint64_t block) {
  Piece piece;
  copy(block, block + 1, piece);
  if (!piece.ranges.empty()) {
    held_ += bytes_of(piece);
    aside_.emplace(block, std::move(piece));
  }
  written_[block] = true;
}

void Watch::give_kept(std::uint64_t block, Piece& piece) {
  const auto kept = aside_.find(block);
  if (kept == aside_.end()) return;
  append(kept->second, piece);
  held_ -= bytes_of(kept->second);
  aside_.erase(kept);
}

void Watch::copy(std::uint64_t first, std::uint64_t end, Piece& piece) const {
  const std::size_t floats = table_->floats(options_.contents);
  const auto add = [&](Range range) {
    const std::size_t before = piece.values.size();
    piece.values.resize(before + range.length * floats);
    table_->save(range, options_.contents, piece.values.data() + before);
    append(range, piece);
  };
  const Range all = table_->blocks(first, end);
  if (options_.since) {
    table_->changed_in(all, *options_.since, add);
  } else {
    add(all);
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
    while (end < std::min(last, next_ + together) && !written_[end]) ++end;
    if (end > next_) {
      copy(next_, end, piece);
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
