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

// What all collectives share. Defaults suit both shared memory and 1 to 100 Gbit/s networks.
struct Options {
  std::string label;                           // names the array in errors, such as "bucket 3"
  std::chrono::duration<double> timeout{300};  // for the whole operation
  std::size_t segment_bytes = 256 * 1024;  // smaller overlaps more, larger costs fewer messages
  bool check = true;                // compare operations, sizes and types between the ranks first
  Fault fault = Fault::none;        // this rank cannot take part; tell the others
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
