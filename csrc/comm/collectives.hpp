// Collective operations as free functions over a transport; in place, pipelined by segments.
//
// Every function is collective over the transport's ranks, throws Failure with the story of what
// it was doing, and leaves arrays undefined after a Failure that is not on all ranks.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/dtype.hpp"
#include "base/reduce.hpp"
#include "comm/agree.hpp"
#include "comm/transport.hpp"

namespace mls {

// Smaller overlaps more, larger costs fewer messages. This suits shared memory and networks of 1 to
// 100 Gbit/s.
constexpr std::size_t kDefaultSegmentBytes = 128 * 1024;

// What all collectives share.
struct Options {
  std::string label = {};                      // names the array in errors, such as "bucket 3"
  std::chrono::duration<double> timeout{300};  // for the whole operation
  std::size_t segment_bytes = kDefaultSegmentBytes;
  // Compare operations, sizes and types between the ranks first. Leave it out only where
  // nothing can have changed since: a message that is too long is an error, but Open MPI 5.0 has
  // written all of it by then, beyond the memory of its receive.
  bool check = true;
  Fault fault = Fault::none;         // this rank cannot take part; tell the others
  std::function<void()> watch = {};  // called now and then while waiting; may throw

  // Within what one message can carry.
  std::size_t segment() const {
    return std::clamp<std::size_t>(segment_bytes, 8, std::size_t{1} << 30);
  }
};

struct AllReduce {
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;
  bool average = false;  // divide the sum by the number of ranks
  Options options;
};

// data: count elements of dtype.
void all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request);

// data: the same number of bytes on all ranks. `dtype` is only compared.
void broadcast(Transport& transport, std::span<std::byte> data, int root, int dtype,
               const Options& options);

// whole: size() parts of mine.size() bytes, in the order of the ranks. `dtype` is only compared.
void all_gather(Transport& transport, std::span<const std::byte> mine, std::span<std::byte> whole,
                int dtype, const Options& options);

void barrier(Transport& transport, const Options& options);

}  // namespace mls
