// Ring, tree and segments without a network.
#include "comm/topology.hpp"

#include "harness.hpp"

using namespace mls;

TEST(parts_and_segments_cover_everything_once) {
  for (std::size_t count = 0; count < 40; ++count) {
    for (std::size_t parts = 1; parts < 9; ++parts) {
      std::size_t next = 0;
      for (std::size_t i = 0; i < parts; ++i) {
        const Part part = part_of(count, parts, i);
        CHECK(part.start == next);
        CHECK(part.length <= ceil_div(count, parts));
        std::size_t inner = part.start;
        for (std::size_t k = 0; k < ceil_div(part.length, 3) + 1; ++k) {
          const Part segment = segment_of(part, 3, k);
          CHECK(segment.length == 0 || segment.start == inner);
          inner += segment.length;
        }
        CHECK(inner == part.start + part.length);
        next += part.length;
      }
      CHECK(next == count);
    }
  }
}

TEST(a_chunk_that_is_sent_is_the_one_that_the_right_neighbour_receives) {
  for (int size = 1; size < 9; ++size) {
    for (int rank = 0; rank < size; ++rank) {
      const Ring ring{rank, size};
      const Ring right{ring.right(), size};
      CHECK(right.left() == rank);
      for (std::size_t step = 0; step < 2 * static_cast<std::size_t>(size); ++step) {
        CHECK(ring.sent_chunk(step) == right.received_chunk(step));
        CHECK(ring.sent_chunk(step + 1) == ring.received_chunk(step));
      }
    }
  }
}

TEST(the_tree_reaches_every_rank_once) {
  for (int size = 1; size < 20; ++size) {
    for (int root = 0; root < size; ++root) {
      std::vector<int> reached(static_cast<std::size_t>(size), 0);
      for (int rank = 0; rank < size; ++rank) {
        for (const int child : BinomialTree{rank, size, root}.children()) {
          ++reached[static_cast<std::size_t>(child)];
          CHECK((BinomialTree{child, size, root}.parent()) == rank);
        }
      }
      for (int rank = 0; rank < size; ++rank) {
        CHECK(reached[static_cast<std::size_t>(rank)] == (rank == root ? 0 : 1));
      }
    }
  }
}
