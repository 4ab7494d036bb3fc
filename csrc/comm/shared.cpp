// Small arrays: every rank lays its array beside its announcement, and reduces those of all for
// itself. One meeting; P S bytes are read by each rank.
//
// Arrays in a window: every rank reduces its own part straight from the blocks of all and writes
// the result into all ("push"). A meeting before, a sync after; 2 S bytes are moved by each rank.
//
// Arrays elsewhere pass through rooms that stay in a cache. In round t every rank
//
//   copies    its pieces number t of all other ranks' parts into its room
//   reduces   piece t - 1 of its own part, from its array and the rooms, into its array and room
//   copies    pieces t - 2 of all other parts out of the rooms into its array
//   syncs
//
// There are two of each room, so a piece is written while the one before it is read, and one sync
// per round is enough: what is overwritten in round t was read in round t - 1.
//
// Every element is reduced by one rank, or by all in the same order: all ranks hold the same bits,
// which are the same for all three.
#include "comm/shared.hpp"

#include <algorithm>
#include <cstring>

namespace mls {
namespace {

constexpr std::size_t kLineBytes = 64;

// The parts of all mates, cut at cache lines.
std::vector<Part> even_parts(std::size_t bytes, int size) {
  std::vector<Part> parts = parts_of(ceil_div(bytes, kLineBytes), static_cast<std::size_t>(size));
  for (Part& part : parts) {
    const std::size_t first = std::min(part.start * kLineBytes, bytes);
    const std::size_t last = std::min((part.start + part.length) * kLineBytes, bytes);
    part = {first, last - first};
  }
  return parts;
}

}  // namespace

void reduce_small(const Board& board, std::span<std::byte> data, const Combine& how) {
  std::vector<const std::byte*> blocks;
  for (int seat = 0; seat < board.size(); ++seat) blocks.push_back(board.small(seat));
  std::byte* const into = data.data();
  reduce_blocks(how, blocks, {&into, 1}, data.size() / size_of(how.dtype));
}

NodeArrays::NodeArrays(Board& board, Transport& transport, std::span<std::byte> data,
                       const Place& place, Deadline deadline)
    : board_(board), transport_(transport), data_(data), deadline_(deadline) {
  if (!place.window) return;
  // what one rank sees of all, each of the others sees too
  const Mapping& memory = place.window->memory();
  std::vector<std::byte*> blocks;
  for (int seat = 0; seat < board.size(); ++seat) {
    const Announcement& other = board.announced(seat);
    if (other.window != memory.number()) return;
    if (other.offset > memory.size() || data.size() > memory.size() - other.offset) return;
    blocks.push_back(memory.data() + other.offset);
  }
  window_ = place.window;
  blocks_ = std::move(blocks);
}

void NodeArrays::all_reduce(const Combine& how) {
  if (direct()) {
    push(how);
  } else {
    const Span span(transport_.trace(), "reduce and spread");
    pass<true, true>(even_parts(data_.size(), board_.size()), how);
  }
}

void NodeArrays::push(const Combine& how) {
  const Part own = even_parts(data_.size(), board_.size())[static_cast<std::size_t>(board_.seat())];
  std::vector<std::byte*> blocks;
  for (std::byte* block : blocks_) blocks.push_back(block + own.start);
  const std::vector<const std::byte*> from(blocks.begin(), blocks.end());
  {
    const Span span(transport_.trace(), "reduce");
    reduce_blocks(how, from, blocks, own.length / size_of(how.dtype));
  }
  finish();
}

void NodeArrays::reduce(std::span<const Part> parts, const Combine& how) {
  const Span span(transport_.trace(), "reduce");
  if (!direct()) return pass<true, false>(parts, how);
  const Part own = parts[static_cast<std::size_t>(board_.seat())];
  std::vector<const std::byte*> from;
  for (const std::byte* block : blocks_) from.push_back(block + own.start);
  std::byte* const into = data_.data() + own.start;
  reduce_blocks(how, from, {&into, 1}, own.length / size_of(how.dtype));
}

void NodeArrays::finish() {
  const Span span(transport_.trace(), "sync");
  sync();
}

void NodeArrays::spread(std::span<const Part> parts) {
  const Span span(transport_.trace(), "spread");
  if (!direct()) return pass<false, true>(parts, {});
  sync();  // all parts are whole
  for (int seat = 0; seat < board_.size(); ++seat) {
    const Part part = parts[static_cast<std::size_t>(seat)];
    if (seat == board_.seat() || part.length == 0) continue;
    std::memcpy(data_.data() + part.start, blocks_[static_cast<std::size_t>(seat)] + part.start,
                part.length);
  }
  sync();
}

template <bool reduces, bool spreads>
void NodeArrays::pass(std::span<const Part> parts, const Combine& how) {
  const int self = board_.seat();
  const std::size_t length = piece_bytes(board_.size());
  std::size_t longest = 0;
  for (const Part part : parts) longest = std::max(longest, part.length);
  const std::size_t pieces = ceil_div(longest, length);
  const auto piece = [&](int owner, std::size_t k) {
    const Part part = segment_of(parts[static_cast<std::size_t>(owner)], length, k);
    return data_.subspan(part.start, part.length);
  };
  const auto for_others = [&](auto body) {
    // each rank begins with another, so that they do not all read the same room
    for (int step = 1; step < board_.size(); ++step) body((self + step) % board_.size());
  };
  std::vector<const std::byte*> from(static_cast<std::size_t>(board_.size()));
  constexpr std::size_t kLag = reduces ? 1 : 0;  // rounds from copying in to the result
  const std::size_t rounds = pieces + kLag + (spreads ? 1 : 0);
  for (std::size_t round = 0; round < rounds; ++round) {
    transport_.at_step(round + 1, rounds);
    if (reduces && round < pieces) {
      for_others([&](int owner) {
        const std::span<std::byte> out = piece(owner, round);
        if (!out.empty()) {
          std::memcpy(board_.piece(self, round % 2, owner), out.data(), out.size());
        }
      });
    }
    if (round >= kLag && round - kLag < pieces) {
      const std::size_t k = round - kLag;
      const std::span<std::byte> own = piece(self, k);
      if (!own.empty() && reduces) {
        for (int seat = 0; seat < board_.size(); ++seat) {
          from[static_cast<std::size_t>(seat)] =
              seat == self ? own.data() : board_.piece(seat, k % 2, self);
        }
        std::byte* const into[2] = {own.data(), board_.result(self, k % 2)};
        reduce_blocks(how, from, std::span(into).first(spreads ? 2 : 1),
                      own.size() / size_of(how.dtype));
      } else if (!own.empty()) {
        std::memcpy(board_.result(self, k % 2), own.data(), own.size());
      }
    }
    if (spreads && round >= kLag + 1) {
      const std::size_t k = round - kLag - 1;
      for_others([&](int owner) {
        const std::span<std::byte> into = piece(owner, k);
        if (!into.empty()) std::memcpy(into.data(), board_.result(owner, k % 2), into.size());
      });
    }
    sync();
  }
}

}  // namespace mls
