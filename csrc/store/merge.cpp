#include "store/merge.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <string>
#include <utility>

#include "base/failure.hpp"

namespace mls {
namespace {

constexpr std::size_t kFew = 1024;       // keys that are sorted by comparing
constexpr unsigned kMostDigitBits = 11;  // so that the counts of a digit stay in the cache
constexpr std::size_t kAhead = 16;       // rows that are fetched before they are needed

using Keys = std::vector<std::uint64_t>;

// A key is, from the top: slot, push, place in the push.
struct Packing {
  unsigned place_bits;
  unsigned push_bits;
  unsigned slot_bits;

  unsigned slot_shift() const { return push_bits + place_bits; }
  std::uint32_t slot(std::uint64_t key) const {
    return static_cast<std::uint32_t>(key >> slot_shift());
  }
  std::size_t push(std::uint64_t key) const {
    return key >> place_bits & ((std::uint64_t{1} << push_bits) - 1);
  }
  std::size_t place(std::uint64_t key) const {
    return key & ((std::uint64_t{1} << place_bits) - 1);
  }
};

unsigned bits_below(std::uint64_t count) {
  return static_cast<unsigned>(std::bit_width(count > 1 ? count - 1 : 1));
}

Packing packing_of(std::span<const RowsPush> pushes) {
  std::uint64_t longest = 0;
  std::uint32_t highest = 0;
  for (const RowsPush& push : pushes) {
    longest = std::max<std::uint64_t>(longest, push.slots.size());
    for (const std::uint32_t slot : push.slots) highest = std::max(highest, slot);
  }
  const Packing packing{bits_below(longest), bits_below(pushes.size()),
                        bits_below(std::uint64_t{highest} + 1)};
  if (packing.slot_bits + packing.slot_shift() > 64) {
    throw Failure(FailureKind::config, std::to_string(pushes.size()) + " pushes of up to " +
                                           std::to_string(longest) +
                                           " rows are too many for one step");
  }
  return packing;
}

Keys keys_of(std::span<const RowsPush> pushes, const Packing& packing) {
  std::size_t count = 0;
  for (const RowsPush& push : pushes) count += push.slots.size();
  Keys keys(count);
  std::uint64_t* next = keys.data();
  for (std::size_t i = 0; i < pushes.size(); ++i) {
    const std::span<const std::uint32_t> slots = pushes[i].slots;
    for (std::size_t place = 0; place < slots.size(); ++place) {
      *next++ = std::uint64_t{slots[place]} << packing.slot_shift() |
                std::uint64_t{i} << packing.place_bits | place;
    }
  }
  return keys;
}

// By the digits of the slot, from the lowest: what is equal in a digit keeps its order, so that
// push and place, which ascend at first, need no passes.
void sort_by_slot(Keys& keys, const Packing& packing) {
  const unsigned passes = (packing.slot_bits + kMostDigitBits - 1) / kMostDigitBits;
  const unsigned digit_bits = (packing.slot_bits + passes - 1) / passes;
  const std::uint64_t mask = (std::uint64_t{1} << digit_bits) - 1;
  Keys sorted(keys.size());
  for (unsigned pass = 0; pass < passes; ++pass) {
    const unsigned shift = packing.slot_shift() + pass * digit_bits;
    std::array<std::size_t, std::size_t{1} << kMostDigitBits> starts{};
    for (const std::uint64_t key : keys) ++starts[key >> shift & mask];
    std::size_t start = 0;
    for (std::size_t& digit : starts) start += std::exchange(digit, start);
    for (const std::uint64_t key : keys) sorted[starts[key >> shift & mask]++] = key;
    keys.swap(sorted);
  }
}

void sort(Keys& keys, const Packing& packing) {
  if (std::ranges::is_sorted(keys)) return;
  if (keys.size() <= kFew) {
    std::ranges::sort(keys);
  } else {
    sort_by_slot(keys, packing);
  }
}

void add(float* __restrict into, const float* __restrict from, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) into[i] += from[i];
}

}  // namespace

void merge(std::span<const RowsPush> pushes, std::uint32_t width, std::vector<std::uint32_t>& slots,
           std::vector<float>& sums) {
  const Packing packing = packing_of(pushes);
  Keys keys = keys_of(pushes, packing);
  sort(keys, packing);

  slots.clear();
  for (const std::uint64_t key : keys) {
    if (slots.empty() || slots.back() != packing.slot(key)) slots.push_back(packing.slot(key));
  }
  sums.resize(slots.size() * width);

  const auto gradient = [&](std::uint64_t key) {
    return pushes[packing.push(key)].gradients.data() + packing.place(key) * width;
  };
  float* into = sums.data();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i + kAhead < keys.size()) __builtin_prefetch(gradient(keys[i + kAhead]));
    if (i > 0 && packing.slot(keys[i]) == packing.slot(keys[i - 1])) {
      add(into - width, gradient(keys[i]), width);
    } else {
      into = std::copy_n(gradient(keys[i]), width, into);
    }
  }
}

}  // namespace mls
