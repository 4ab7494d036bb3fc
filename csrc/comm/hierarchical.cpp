// Every rank of a node drives its own slice through the network, so that all of them send and
// receive: as in Horovod's hierarchical all-reduce (Sergeev, Del Balso 2018) and MPI's "HAN" (Luo
// et al. 2020), with the node's part in shared memory.
//
//   reduce   inside the node: rank i of the node gets the node's combination of slice i
//   between  rank i of all nodes all-reduce slice i, by ring or by halving
//   spread   inside the node: slice i goes from rank i to all others
//
// There are as many slices as the smallest node has ranks; further ranks of larger nodes only take
// part inside. Nodes whose ranks share no memory do their part by messages around a ring.
#include "comm/hierarchical.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "comm/choice.hpp"
#include "comm/halving.hpp"
#include "comm/prepare.hpp"
#include "comm/ring.hpp"
#include "comm/shared.hpp"
#include "comm/topology.hpp"
#include "comm/wire.hpp"

namespace mls {
namespace {

struct Nodes {
  std::vector<std::vector<int>> ranks;  // of each node
  std::size_t own;
  std::size_t place;   // of this rank in its node
  std::size_t slices;  // the size of the smallest node
};

Nodes nodes_of(const Transport& transport) {
  std::map<int, std::vector<int>> ranks;
  for (int rank = 0; rank < transport.size(); ++rank) {
    ranks[transport.nodes()[static_cast<std::size_t>(rank)]].push_back(rank);
  }
  Nodes nodes{{}, 0, 0, static_cast<std::size_t>(transport.size())};
  for (const auto& [node, members] : ranks) {
    const auto found = std::ranges::find(members, transport.rank());
    if (found != members.end()) {
      nodes.own = nodes.ranks.size();
      nodes.place = static_cast<std::size_t>(found - members.begin());
    }
    nodes.slices = std::min(nodes.slices, members.size());
    nodes.ranks.push_back(members);
  }
  return nodes;
}

// A slice for each of the first mates, nothing for the others.
std::vector<Part> slices_of(const Nodes& nodes, std::size_t count) {
  std::vector<Part> slices = parts_of(count, nodes.slices);
  slices.resize(nodes.ranks[nodes.own].size(), {count, 0});
  return slices;
}

std::vector<Part> in_bytes(std::vector<Part> parts, std::size_t element) {
  for (Part& part : parts) part = {part.start * element, part.length * element};
  return parts;
}

}  // namespace

void in_levels(Transport& transport, std::span<std::byte> data, const Combine& inside,
               const Intent& intent, const Story& story, std::size_t segment_bytes,
               const BetweenNodes& exchange) {
  const Nodes nodes = nodes_of(transport);
  const std::size_t element = size_of(inside.dtype);
  const std::vector<Part> slices = slices_of(nodes, data.size() / element);
  const Group mates{nodes.ranks[nodes.own], static_cast<int>(nodes.place)};
  const Wire inner{transport,        mates,        Channel::all_gather, story.sequence(),
                   story.deadline(), segment_bytes};

  const auto between = [&] {
    if (nodes.place >= nodes.slices) return;
    const Span span(transport.trace(), "between nodes");
    Group group{{}, static_cast<int>(nodes.own)};
    for (const std::vector<int>& members : nodes.ranks) {
      group.ranks.push_back(members[nodes.place]);
    }
    const Wire outer{transport,        group,        Channel::all_reduce, story.sequence(),
                     story.deadline(), segment_bytes};
    const Part slice = slices[nodes.place];
    exchange(outer, data.subspan(slice.start * element, slice.length * element));
  };

  if (Board* board = transport.board()) {
    const Place place = place_of(data);
    announce(transport, intent, story, place);
    NodeArrays arrays(*board, transport, data, place, story.deadline());
    const std::vector<Part> parts = in_bytes(slices, element);
    arrays.reduce(parts, inside);
    between();
    arrays.spread(parts);
  } else {
    if (mates.size() > 1) ring_reduce_scatter(inner, data, slices, inside);
    between();
    if (mates.size() > 1) ring_all_gather(inner, data, slices, element);
  }
}

void hierarchical_all_reduce(Transport& transport, std::span<std::byte> data, const Combine& how,
                             const Intent& intent, const Story& story, std::size_t segment_bytes) {
  Combine inside = how;
  inside.divisor = 1;  // divided once, between the nodes
  in_levels(transport, data, inside, intent, story, segment_bytes,
            [&](const Wire& outer, std::span<std::byte> own) {
              const auto nodes = static_cast<std::size_t>(outer.size());
              if (between_nodes(own.size(), nodes) == Algorithm::ring) {
                ring_all_reduce(outer, own, how);
              } else {
                halving_all_reduce(outer, own, how);
              }
            });
}

}  // namespace mls
