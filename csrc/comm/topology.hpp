// Who sends what to whom, as integer arithmetic.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace mls {

constexpr std::size_t ceil_div(std::size_t a, std::size_t b) { return a / b + (a % b != 0); }

struct Part {
  std::size_t start;
  std::size_t length;
};

// Part `index` of `count` elements cut into `parts` that differ by at most one; longer ones first.
constexpr Part part_of(std::size_t count, std::size_t parts, std::size_t index) {
  const std::size_t base = count / parts;
  const std::size_t longer = count % parts;
  const std::size_t start = index * base + std::min(index, longer);
  return {start, base + (index < longer ? 1 : 0)};
}

// One of the two halves of a part, 0 or 1.
constexpr Part half_of(Part part, std::size_t index) {
  const Part half = part_of(part.length, 2, index);
  return {part.start + half.start, half.length};
}

// Segment `index` of at most `length` elements of a part; empty behind its end.
constexpr Part segment_of(Part part, std::size_t length, std::size_t index) {
  const std::size_t first = std::min(index * length, part.length);
  const std::size_t last = std::min(first + length, part.length);
  return {part.start + first, last - first};
}

// All parts, in order.
constexpr std::vector<Part> parts_of(std::size_t count, std::size_t parts) {
  std::vector<Part> all;
  for (std::size_t index = 0; index < parts; ++index) all.push_back(part_of(count, parts, index));
  return all;
}

// Ranks of a transport that take part, in their order, and this rank's place among them.
struct Group {
  std::vector<int> ranks;
  int index;

  static Group all(int rank, int size) {
    Group group{{}, rank};
    for (int peer = 0; peer < size; ++peer) group.ranks.push_back(peer);
    return group;
  }

  int size() const { return static_cast<int>(ranks.size()); }
  int rank_of(int place) const { return ranks[static_cast<std::size_t>(place)]; }
};

struct Ring {
  int rank;
  int size;

  constexpr int left() const { return (rank + size - 1) % size; }
  constexpr int right() const { return (rank + 1) % size; }

  // In step j of 2 (size - 1), this rank sends one chunk and receives the one before it. The first
  // half of the steps reduces, after which it has its own chunk; the second half copies.
  constexpr std::size_t sent_chunk(std::size_t step) const { return chunk(step + 1); }
  constexpr std::size_t received_chunk(std::size_t step) const { return chunk(step + 2); }

 private:
  constexpr std::size_t chunk(std::size_t back) const {
    const std::size_t p = static_cast<std::size_t>(size);
    return (static_cast<std::size_t>(rank) + p - back % p) % p;
  }
};

// The largest power of two of ranks, for algorithms that need one. Of the first 2 * extra() ranks,
// every even one leaves its data to the odd one behind it and is told the result.
struct Folded {
  int rank;
  int size;

  constexpr int power() const {
    int power = 1;
    while (2 * power <= size) power *= 2;
    return power;
  }
  constexpr int extra() const { return size - power(); }
  constexpr bool paired() const { return rank < 2 * extra(); }
  constexpr bool leaves() const { return paired() && rank % 2 == 0; }
  constexpr int partner() const { return rank ^ 1; }

  // This rank among those that stay, and back.
  constexpr int number() const { return paired() ? rank / 2 : rank - extra(); }
  constexpr int rank_of(int number) const {
    return number < extra() ? 2 * number + 1 : number + extra();
  }

  // With whom a rank that stays is paired in a round, and which side of the pair it is.
  constexpr int peer(int round) const { return rank_of(number() ^ (1 << round)); }
  constexpr std::size_t side(int round) const {
    return static_cast<std::size_t>(number() >> round & 1);
  }
};

// Segments under way in a ring at a time.
constexpr std::size_t kRingAhead = 4;

// Elements of a segment of a ring: those of `bytes`, or less, so that a part has enough of them to
// be sent while others are reduced, but not so little that messages cost more than they save.
constexpr std::size_t ring_segment(std::span<const Part> parts, std::size_t bytes,
                                   std::size_t element) {
  constexpr std::size_t kLeastBytes = 16 * 1024;
  std::size_t longest = 1;
  for (const Part part : parts) longest = std::max(longest, part.length);
  const std::size_t share = std::max(ceil_div(longest, kRingAhead), kLeastBytes / element);
  return std::clamp<std::size_t>(std::min(bytes / element, share), 1, longest);
}

// A binomial tree: the number of a rank relative to the root loses its lowest bit towards it.
struct BinomialTree {
  int rank;
  int size;
  int root;

  constexpr bool is_root() const { return rank == root; }
  constexpr int parent() const { return absolute(relative() & (relative() - 1)); }

  // The one with the deepest subtree first.
  constexpr std::vector<int> children() const {
    std::vector<int> found;
    for (int bit = 1; bit < size && !(relative() & bit); bit *= 2) {
      if (relative() + bit < size) found.insert(found.begin(), absolute(relative() + bit));
    }
    return found;
  }

 private:
  constexpr int relative() const { return (rank - root + size) % size; }
  constexpr int absolute(int number) const { return (number + root) % size; }
};

static_assert(ceil_div(0, 4) == 0 && ceil_div(4, 4) == 1 && ceil_div(5, 4) == 2);
static_assert(part_of(10, 4, 0).length == 3 && part_of(10, 4, 3).start == 8);
static_assert(part_of(2, 4, 3).length == 0);
static_assert(segment_of({3, 5}, 2, 2).start == 7 && segment_of({3, 5}, 2, 2).length == 1);
static_assert(Ring{0, 3}.left() == 2 && Ring{2, 3}.right() == 0);
static_assert(Ring{1, 3}.received_chunk(0) == Ring{0, 3}.sent_chunk(0));
static_assert(Ring{1, 3}.received_chunk(1) == 1);
static_assert(Folded{2, 6}.leaves() && Folded{3, 6}.number() == 1 && Folded{4, 6}.number() == 2);
static_assert(Folded{0, 6}.rank_of(1) == 3 && Folded{0, 6}.rank_of(3) == 5);
static_assert(!Folded{0, 8}.paired() && Folded{0, 8}.rank_of(5) == 5);
static_assert(Folded{4, 6}.peer(0) == 5 && Folded{4, 6}.side(0) == 0 && Folded{4, 6}.peer(1) == 1);
static_assert(half_of({3, 5}, 1).start == 6 && half_of({3, 5}, 1).length == 2);
static_assert(BinomialTree{7, 8, 0}.parent() == 6 && BinomialTree{2, 5, 3}.parent() == 3);

}  // namespace mls
