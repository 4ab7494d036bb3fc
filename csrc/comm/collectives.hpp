// Collective operations as free functions over a transport; in place, pipelined by segments.
//
// Every function is collective over the transport's ranks, throws Failure with the story of what
// it was doing, and leaves arrays undefined after a Failure other than one of kind config.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>

#include "base/dtype.hpp"
#include "base/reduce.hpp"
#include "comm/agree.hpp"
#include "comm/transport.hpp"

namespace mls {

// What all collectives share. Defaults suit both shared memory and 1 to 100 Gbit/s networks.
struct Options {
  std::string label;                          // names the array in errors, such as "bucket 3"
  std::chrono::duration<double> timeout{300};  // for the whole operation
  std::size_t segment_bytes = 256 * 1024;     // smaller overlaps more, larger costs fewer messages
  bool check = true;                          // compare sizes and types between ranks first
  Fault fault = Fault::none;                  // this rank cannot take part; tell the others
};

struct AllReduce {
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;
  bool average = false;  // divide the sum by the number of ranks
  Options options;
};

// data: count elements of dtype, aligned to the element.
void all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request);

// data: the same number of bytes on all ranks. `dtype` is only compared.
void broadcast(Transport& transport, std::span<std::byte> data, int root, int dtype,
               const Options& options);

// whole: size() parts of mine.size() bytes, in the order of the ranks.
void all_gather(Transport& transport, std::span<const std::byte> mine, std::span<std::byte> whole,
                int dtype, const Options& options);

void barrier(Transport& transport, const Options& options);

}  // namespace mls
