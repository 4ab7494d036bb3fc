// All-reduce of float32 with frames instead of numbers on the wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/collectives.hpp"
#include "comm/compressor.hpp"

namespace mls {

struct CompressedAllReduce {
  Spec spec;
  std::uint64_t step = 0;  // of the training: the same on all ranks, another each time
  bool measure = false;    // note the relative error in the compressor
  Options options = {};
};

// The sum over the ranks, in place; the same bits on all ranks. Where several nodes have several
// ranks, it is dense inside the nodes and compressed between them. Elements that are not
// compressed are all-reduced apart. With a single rank nothing changes.
//
// Throws Failure(config) on all ranks where the codec cannot travel in the compressor's pattern;
// codec none then takes another. Throws Failure(corrupt) for a frame that is damaged, with the rank
// that it came from.
void compressed_all_reduce(Transport& transport, std::span<float> data, Compressor& memory,
                           const CompressedAllReduce& request);

// Whether frames of this spec can travel so.
bool can_travel(const Spec& spec, Feedback feedback, Pattern pattern);

// What Pattern::automatic stands for among `ranks` ranks.
Pattern pattern_for(const Spec& spec, Feedback feedback, std::size_t count, std::size_t ranks);

}  // namespace mls
