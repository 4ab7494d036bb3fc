// All-reduce by recursive halving and doubling.
#pragma once

#include <cstddef>
#include <span>

#include "base/reduce.hpp"
#include "comm/wire.hpp"

namespace mls {

void halving_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how);

}  // namespace mls
