// Small arrays: every rank lays its array beside its announcement, and reduces those of all for
// itself, in the order of the ranks. One meeting; P S bytes are read by each rank.
//
// Arrays in a window: every rank reduces its own part straight from the blocks of all and writes
// the result into all ("push"). A meeting before, a parting after; 2 S bytes are moved by each
// rank.
//
//   meet                                    all arrays are ready
//   for each piece of this rank's part:     pieces stay in the first-level cache
//     sum = block 0; sum op= block 1 ...    in the order of the ranks
//     block 0 = sum; block 1 = sum ...
//   part                                    all results are written
//
// Every element is reduced by one rank, or by all in the same order: all ranks hold the same bits.
#include "comm/shared.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "comm/topology.hpp"
#include "comm/window.hpp"

namespace mls {
namespace {

constexpr std::size_t kPieceBytes = 8 * 1024;
constexpr std::size_t kLineBytes = 64;

void finish(const AllReduce& request, std::byte* data, std::size_t count, int ranks) {
  if (request.average) divide(request.dtype, data, count, ranks);
}

void reduce_small(const Board& board, std::span<std::byte> data, const AllReduce& request) {
  const std::size_t count = data.size() / size_of(request.dtype);
  std::memcpy(data.data(), board.small(0), data.size());
  for (int rank = 1; rank < board.size(); ++rank) {
    reduce(request.op, request.dtype, data.data(), board.small(rank), count);
  }
  finish(request, data.data(), count, board.size());
}

// This rank's part of `bytes`, cut at cache lines.
Part own_part(std::size_t bytes, int rank, int size) {
  const Part lines = part_of(ceil_div(bytes, kLineBytes), static_cast<std::size_t>(size),
                             static_cast<std::size_t>(rank));
  const std::size_t first = std::min(lines.start * kLineBytes, bytes);
  const std::size_t last = std::min((lines.start + lines.length) * kLineBytes, bytes);
  return {first, last - first};
}

void push(const std::vector<std::byte*>& blocks, int rank, std::size_t bytes,
          const AllReduce& request) {
  const int size = static_cast<int>(blocks.size());
  const Part part = own_part(bytes, rank, size);
  alignas(kLineBytes) std::array<std::byte, kPieceBytes> sum;
  for (std::size_t k = 0; k < ceil_div(part.length, kPieceBytes); ++k) {
    const Part piece = segment_of(part, kPieceBytes, k);
    const std::size_t count = piece.length / size_of(request.dtype);
    std::memcpy(sum.data(), blocks[0] + piece.start, piece.length);
    for (std::size_t peer = 1; peer < blocks.size(); ++peer) {
      reduce(request.op, request.dtype, sum.data(), blocks[peer] + piece.start, count);
    }
    finish(request, sum.data(), count, size);
    for (std::byte* block : blocks) std::memcpy(block + piece.start, sum.data(), piece.length);
  }
}

}  // namespace

bool shared_all_reduce(Board& board, Transport& transport, std::span<std::byte> data,
                       const AllReduce& request, const Intent& intent, const Story& story) {
  Announcement mine{.intent = intent, .sequence = story.sequence()};
  const bool small = data.size() <= kSlotBytes;
  const std::shared_ptr<Window> window = small ? nullptr : window_of(data);
  if (window) {
    mine.window = window->number();
    mine.offset = static_cast<std::uint64_t>(data.data() - window->mine().data());
  }
  const bool sound = intent.fault == Fault::none;
  board.meet(transport, mine, small && sound ? data : std::span<std::byte>(), story.deadline());

  bool together = window != nullptr;
  std::vector<Caller> callers;
  for (int rank = 0; rank < board.size(); ++rank) {
    const Announcement& other = board.announced(rank);
    callers.push_back({other.intent, other.sequence});
    together = together && other.window == mine.window && other.offset == mine.offset;
  }
  compare(callers);
  if (small) {
    if (!data.empty()) reduce_small(board, data, request);
    return true;
  }
  // what one rank sees of all, each of the others sees too
  if (!together) return false;
  std::vector<std::byte*> blocks;
  for (int rank = 0; rank < board.size(); ++rank) {
    blocks.push_back(window->block(rank) + mine.offset);
  }
  push(blocks, board.rank(), data.size(), request);
  board.part(transport, story.deadline());
  return true;
}

}  // namespace mls
