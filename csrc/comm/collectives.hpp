// Collective operations as free functions over a transport; in place, pipelined by segments.
//
// Every function is collective over the transport's ranks, throws Failure with the story of what
// it was doing, and leaves arrays undefined after a Failure that is not on all ranks, else as they
// were.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/dtype.hpp"
#include "base/reduce.hpp"
#include "comm/intent.hpp"
#include "comm/transport.hpp"

namespace mls {

// Smaller overlaps more, larger costs fewer messages. Between nodes just below what Open MPI sends
// over TCP without asking first.
constexpr std::size_t kSegmentBytes = 128 * 1024;
constexpr std::size_t kSegmentBytesBetweenNodes = 64 * 1024 - 256;

// What all collectives share.
struct Options {
  std::string label = {};                      // names the array in errors, such as "bucket 3"
  std::chrono::duration<double> timeout{300};  // for the whole operation
  std::size_t segment_bytes = 0;               // 0: what suits the network
  // Compare operations, sizes and types between the ranks first. Leave it out only where
  // nothing can have changed since: a message that is too long is an error, but Open MPI 5.0 has
  // written all of it by then, beyond the memory of its receive.
  bool check = true;
  Fault fault = Fault::none;         // this rank cannot take part; tell the others
  Passed passed = {};                // for the reports of waits
  std::function<void()> watch = {};  // called now and then while waiting; may throw

  // Within what one message can carry.
  std::size_t segment(const Transport& transport) const {
    const std::size_t suits = transport.one_node() ? kSegmentBytes : kSegmentBytesBetweenNodes;
    return std::clamp<std::size_t>(segment_bytes ? segment_bytes : suits, 8, std::size_t{1} << 30);
  }
};

struct AllReduce {
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;
  bool average = false;  // divide the sum by the number of ranks; floats only
  Algorithm algorithm = Algorithm::automatic;
  Order order = Order::any;
  Options options;
};

// data: count elements of dtype.
void all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request);

// The same on several arrays of one type, of the same sizes on all ranks. Arrays that follow one
// another are copied into one buffer of at most fusion_bytes and back; larger ones are not copied.
void grouped_all_reduce(Transport& transport, std::span<const std::span<std::byte>> arrays,
                        std::size_t fusion_bytes, const AllReduce& request);

// data: rows of `row` elements. Afterwards each rank has its part of the rows of the result in its
// place, see part_of; the rest of the data is undefined. The algorithm is not for choice.
void reduce_scatter(Transport& transport, std::span<std::byte> data, std::size_t row,
                    const AllReduce& request);

// data: the same number of bytes on all ranks. `dtype` is only compared.
void broadcast(Transport& transport, std::span<std::byte> data, int root, int dtype,
               const Options& options);

// whole: the parts of all ranks in their order; `lengths` are their bytes, the same on all ranks,
// or empty where all are mine.size(). `dtype` is only compared.
void all_gather(Transport& transport, std::span<const std::byte> mine, std::span<std::byte> whole,
                std::span<const std::size_t> lengths, int dtype, const Options& options);

// sent: a part for each rank, in their order, whose bytes are in sent_lengths. received: a part
// from each rank, whose bytes are what that rank has for this one. `dtype` is only compared.
void all_to_all(Transport& transport, std::span<const std::byte> sent,
                std::span<const std::size_t> sent_lengths, std::span<std::byte> received,
                std::span<const std::size_t> received_lengths, int dtype, const Options& options);

void barrier(Transport& transport, const Options& options);

}  // namespace mls
