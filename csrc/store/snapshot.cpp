#include "store/snapshot.hpp"

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
  copy(block, piece);
  if (!piece.ranges.empty()) {
    held_ += bytes_of(piece);
    aside_.emplace(block, std::move(piece));
  }
  written_[block] = true;
}

void Watch::copy(std::uint64_t block, Piece& piece) const {
  const std::size_t floats = table_->floats(options_.contents);
  const auto add = [&](Range range) {
    const std::size_t before = piece.values.size();
    piece.values.resize(before + range.length * floats);
    table_->save(range, options_.contents, piece.values.data() + before);
    append(range, piece);
  };
  const Range all = table_->block(block);
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
  const std::uint64_t end =
      next_ + std::max<std::uint64_t>(1, kMostGranules >> table_->block_granule_bits());
  for (; next_ < std::min(end, blocks_) && piece.values.size() < kPieceFloats; ++next_) {
    if (!written_[next_]) {
      copy(next_, piece);
    } else if (const auto kept = aside_.find(next_); kept != aside_.end()) {
      append(kept->second, piece);
      held_ -= bytes_of(kept->second);
      aside_.erase(kept);
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
