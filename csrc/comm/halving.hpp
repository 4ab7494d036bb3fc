// All-reduce by recursive halving and doubling.
#pragma once

#include <cstddef>
#include <span>

#include "base/reduce.hpp"
#include "comm/wire.hpp"

namespace mls {

void halving_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how);

// Its second half. kept: the ranges that this rank worked on, from the whole to its own. step: the
// one before, of all `steps`, for reports.
void halving_all_gather(const Wire& wire, std::span<std::byte> data, const Combine& how,
                        std::span<const Part> kept, std::size_t step, std::size_t steps);

}  // namespace mls
