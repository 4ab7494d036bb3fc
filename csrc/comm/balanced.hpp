// What travels in a balanced exchange, frames_balanced.cpp; that of a device, which has the arrays
// and selects, is here as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/codec.hpp"
#include "comm/division.hpp"

namespace mls {

// Elements of an array or of a share of it, ascending.
struct Selected {
  std::vector<std::uint32_t> places;
  std::vector<float> values;

  explicit Selected(std::size_t room = 0) : places(room), values(room) {}
  std::size_t size() const { return places.size(); }
  void add(std::size_t place, float value);

  // Leaves the largest.
  void keep(std::size_t most);
};

// The most values for one owner of the k that a rank selects, and that an owner tells.
constexpr std::size_t most_sent(std::size_t k, std::size_t ranks) {
  return std::max<std::size_t>(1, 5 * k / (4 * ranks));
}
constexpr std::size_t most_told(std::size_t k, std::size_t ranks) {
  return std::max<std::size_t>(1, 7 * k / (4 * ranks));
}

// Bytes of a frame of at most this many values, or more.
std::size_t selected_bound(std::size_t values);

// A frame of these elements of `count`; returns its part of `frame`.
std::span<std::byte> write_selected(const Spec& spec, const Selected& chosen, std::size_t count,
                                    Draw draw, std::span<std::byte> frame);

// What was decoded, as the receivers see it.
Selected read_selected(const Payload& payload);

// What each owner gets of the elements that a rank selected, by their places in its share.
std::vector<Selected> by_owner(const Selected& all, const Cyclic& layout, std::size_t most);

// What a rank draws with when it writes the frame for an owner.
Draw draw_for(std::uint64_t key, std::size_t own, std::size_t owner, std::size_t ranks);

// For a device ----------------------------------------------------------------------------------

// To make a frame of the k largest elements, as they are.
Spec selection_of(const Spec& spec);

// To make a frame of what an owner of `share` of `count` elements tells.
Spec telling_of(const Spec& spec, std::size_t count, std::size_t ranks, std::size_t share);

struct Outgoing {
  std::vector<std::byte> frames;     // for all owners, one after the other
  std::vector<std::size_t> lengths;  // of each
  std::vector<std::byte> told;       // a frame of what they say, for the array of the sender
};

// What a rank sends of a frame of a selection.
Outgoing outgoing_of(const Spec& spec, std::span<const std::byte> selection, std::size_t count,
                     std::size_t own, std::size_t ranks, std::uint64_t key);

}  // namespace mls
