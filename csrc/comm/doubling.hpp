// All-reduce by recursive doubling.
#pragma once

#include <cstddef>
#include <span>

#include "base/reduce.hpp"
#include "comm/wire.hpp"

namespace mls {

void doubling_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how);

}  // namespace mls
