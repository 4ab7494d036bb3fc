// Pushes of several workers to one table in one step, summed row by row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mls {

struct RowsPush {
  std::span<const std::uint32_t> slots;  // in any order, repeated or not
  std::span<const float> gradients;      // slots.size() * width
};

// The slots of all pushes, ascending and each once, and their sums: of the gradients of one push in
// their order there, push after push. The same bits whenever the pushes arrived, as long as they
// are given in one order, such as that of the workers.
void merge(std::span<const RowsPush> pushes, std::uint32_t width, std::vector<std::uint32_t>& slots,
           std::vector<float>& sums);

}  // namespace mls
