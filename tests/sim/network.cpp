#include "network.hpp"

#include "comm/topology.hpp"

namespace sim {
namespace {

// Which spine switch the messages between two nodes take: as switches do, by a hash (splitmix64 of
// Steele, Lea and Flood 2014) of what does not change, so that messages keep their order.
std::size_t spine_of(std::size_t from, std::size_t to, std::size_t spines) {
  std::uint64_t mixed = (static_cast<std::uint64_t>(from) << 32 | to) + 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return (mixed ^ mixed >> 31) % spines;
}

}  // namespace

Network::Network(int ranks, const Shape& shape)
    : nodes_per_leaf_(static_cast<std::size_t>(shape.nodes_per_leaf)) {
  for (int rank = 0; rank < ranks; ++rank) nodes_.push_back(rank / shape.ranks_per_node);
  const auto nodes = static_cast<std::size_t>(nodes_.back()) + 1;
  const std::size_t spine_links = mls::ceil_div(nodes, nodes_per_leaf_) * nodes_per_leaf_;
  copies_ = add(nodes_.size(), 0, shape.copy_per_byte);
  memories_ = add(nodes, shape.memory_latency, shape.memory_per_byte);
  leaving_ = add(nodes, shape.link_latency, shape.link_per_byte);
  entering_ = add(nodes, shape.link_latency, shape.link_per_byte);
  ascending_ = add(spine_links, shape.spine_latency, shape.link_per_byte);
  descending_ = add(spine_links, shape.spine_latency, shape.link_per_byte);
}

Network::Range Network::add(std::size_t count, Time latency, Time per_byte) {
  const Range range{links_.size()};
  links_.resize(links_.size() + count, {latency, per_byte});
  return range;
}

Path Network::path(int from, int to) const {
  const auto sender = static_cast<std::size_t>(from);
  const auto source = static_cast<std::size_t>(nodes_[sender]);
  const auto target = static_cast<std::size_t>(nodes_[static_cast<std::size_t>(to)]);
  if (source == target) return {{copies_[sender], memories_[source]}, 2};
  const std::size_t up = source / nodes_per_leaf_;
  const std::size_t down = target / nodes_per_leaf_;
  if (up == down) return {{leaving_[source], entering_[target]}, 2};
  const std::size_t spine = spine_of(source, target, nodes_per_leaf_);
  return {{leaving_[source], ascending_[up * nodes_per_leaf_ + spine],
           descending_[down * nodes_per_leaf_ + spine], entering_[target]},
          4};
}

}  // namespace sim
