// Sums of pushes against a map, bit for bit.
#include <algorithm>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"
#include "store/merge.hpp"

namespace {

using namespace mls;

struct Owned {
  std::vector<std::uint32_t> slots;
  std::vector<float> gradients;
};

Owned push_of(std::uint64_t seed, std::size_t count, std::uint64_t below, std::uint32_t width,
              bool sorted) {
  Owned push;
  for (std::size_t i = 0; i < count; ++i) {
    push.slots.push_back(static_cast<std::uint32_t>(random_bits(seed, i) * below >> 32));
  }
  if (sorted) std::ranges::sort(push.slots);
  for (std::size_t i = 0; i < count * width; ++i) {
    // sums of such numbers depend on their order
    const float exponent = static_cast<float>(1u << random_bits(seed + 1, i) % 20);
    push.gradients.push_back((static_cast<float>(random_bits(seed + 2, i)) * 0x1p-31f - 1) *
                             exponent);
  }
  return push;
}

using Sums = std::map<std::uint32_t, std::vector<float>>;

Sums by_map(const std::vector<Owned>& pushes, std::uint32_t width) {
  Sums sums;
  for (const Owned& push : pushes) {
    for (std::size_t i = 0; i < push.slots.size(); ++i) {
      const float* const from = push.gradients.data() + i * width;
      const auto [row, is_new] = sums.try_emplace(push.slots[i], from, from + width);
      for (std::size_t k = 0; k < width && !is_new; ++k) row->second[k] += from[k];
    }
  }
  return sums;
}

Sums by_merge(const std::vector<Owned>& pushes, std::uint32_t width) {
  std::vector<RowsPush> views;
  for (const Owned& push : pushes) views.push_back({push.slots, push.gradients});
  std::vector<std::uint32_t> slots{3, 4};  // what was in them goes
  std::vector<float> sums{5};
  merge(views, width, slots, sums);
  CHECK(sums.size() == slots.size() * width);
  CHECK(std::ranges::adjacent_find(slots, std::greater_equal{}) == slots.end());
  Sums found;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const float* const from = sums.data() + i * width;
    found[slots[i]].assign(from, from + width);
  }
  return found;
}

TEST(merged_pushes_are_the_sums_in_the_order_of_the_workers) {
  for (const std::size_t workers : {0u, 1u, 2u, 3u, 9u}) {
    for (const std::size_t count : {0u, 1u, 2u, 50u, 1500u}) {
      for (const std::uint64_t below : {std::uint64_t{1}, std::uint64_t{40}, std::uint64_t{3000},
                                        std::uint64_t{10'000'000}, std::uint64_t{1} << 32}) {
        for (const bool sorted : {false, true}) {
          const auto width = static_cast<std::uint32_t>(1 + (count + workers) % 5);
          std::vector<Owned> pushes;
          for (std::size_t i = 0; i < workers; ++i) {
            pushes.push_back(
                push_of(10 * i + below, i == 1 ? count / 2 : count, below, width, sorted));
          }
          CHECK(by_merge(pushes, width) == by_map(pushes, width));
        }
      }
    }
  }
}

TEST(the_order_of_the_pushes_is_that_of_the_sums) {
  const std::vector<Owned> pushes{{{7}, {1e8f}}, {{7}, {1}}, {{7}, {-1e8f}}};
  const std::vector<Owned> turned{pushes[0], pushes[2], pushes[1]};
  CHECK(by_merge(pushes, 1).at(7) == std::vector<float>{0});
  CHECK(by_merge(turned, 1).at(7) == std::vector<float>{1});
}

TEST(extreme_slots_are_merged) {
  const std::vector<Owned> pushes{{{0xffffffff, 0, 0xffffffff}, {1, 2, 3}}, {{0, 1}, {4, 5}}};
  const Sums expected{{0, {6}}, {1, {5}}, {0xffffffff, {4}}};
  CHECK(by_merge(pushes, 1) == expected);
}

}  // namespace
