// Networks of the simulator: links, and the path of a message over them.
//
// A link carries one message after the other, in the order in which they reach it, and a message
// enters the next link of its path as soon as its first byte gets there (cut-through). Not
// modelled: loss and congestion control, switches that run out of memory, links shared byte by
// byte, the processor's time for a message.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sim {

using Time = std::int64_t;  // picoseconds

constexpr Time kNanosecond = 1000;
constexpr Time kMicrosecond = 1000 * kNanosecond;

constexpr Time per_byte_at_gigabits(Time gigabits_per_s) { return 8000 / gigabits_per_s; }

// Nodes of several ranks on leaf switches, and leaf switches joined by as many spine switches as a
// leaf has nodes, so that no pattern of messages lacks links; but the two nodes decide which spine
// switch a message takes, so that some links get more than their share. All of one leaf: a star.
struct Shape {
  int ranks_per_node;
  int nodes_per_leaf;
  Time link_latency;     // of a node's link, one way; through a leaf switch two of them
  Time link_per_byte;    // of every link between machines
  Time spine_latency;    // of a link between leaf and spine
  Time memory_latency;   // of a message inside a node
  Time memory_per_byte;  // of all messages inside a node together
  Time copy_per_byte;    // of one rank's messages inside its node
};

struct Link {
  Time latency;
  Time per_byte;
  Time free = 0;  // from when on
};

struct Path {
  std::array<std::size_t, 4> links;
  std::size_t length;
};

class Network {
 public:
  Network(int ranks, const Shape& shape);

  int size() const { return static_cast<int>(nodes_.size()); }
  const std::vector<int>& nodes() const { return nodes_; }
  Path path(int from, int to) const;

  Link& link(std::size_t index) { return links_[index]; }

 private:
  // Links of one kind follow one another in links_.
  struct Range {
    std::size_t first = 0;
    std::size_t operator[](std::size_t index) const { return first + index; }
  };
  Range add(std::size_t count, Time latency, Time per_byte);

  std::vector<int> nodes_;
  std::size_t nodes_per_leaf_;
  std::vector<Link> links_;
  Range copies_;      // of each rank
  Range memories_;    // of each node
  Range leaving_;     // from each node to its leaf switch
  Range entering_;    // from the leaf switch to each node
  Range ascending_;   // from leaf to spine, nodes_per_leaf of each leaf
  Range descending_;  // from spine to leaf
};

}  // namespace sim
