// All-reduce around a ring, its two halves each by itself, and both in one pipeline.
#pragma once

#include <cstddef>
#include <span>

#include "base/reduce.hpp"
#include "comm/topology.hpp"
#include "comm/wire.hpp"

namespace mls {

void ring_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how);

// parts: one for each rank of the group, in elements. Afterwards the own part is reduced; the rest
// of the data is undefined.
void ring_reduce_scatter(const Wire& wire, std::span<std::byte> data, std::span<const Part> parts,
                         const Combine& how);

// Every part is copied from the rank that it belongs to; `element` is the unit of parts in bytes.
void ring_all_gather(const Wire& wire, std::span<std::byte> data, std::span<const Part> parts,
                     std::size_t element);

}  // namespace mls
