// Where arrays lie in their cache lines, which requests of dense tables say, so that the server
// puts what it receives and sends at the same place.
//
// A kernel's copy between processes takes up to four times as long where the target lies less than
// 32 bytes further on in its line than the source (`rep movsb` on AMD's Zen; glibc bug 30994).
#pragma once

#include <cstddef>
#include <cstdint>

#include "ps/message.hpp"

namespace mls {

inline constexpr std::size_t kLine = 64;

inline std::size_t in_line(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kLine;
}

// Message::entry for a gradient that goes and parameters that come; nullptr where there are none.
inline std::uint16_t lines_of(const float* gradient, const float* parameters) {
  return static_cast<std::uint16_t>(in_line(gradient) + kLine * in_line(parameters));
}

// The same, back; whatever came, floats are aligned there.
inline std::size_t for_floats(std::size_t place) {
  return place % kLine / sizeof(float) * sizeof(float);
}
inline std::size_t gradient_in_line(const Message& head) { return for_floats(head.entry); }
inline std::size_t parameters_in_line(const Message& head) {
  return for_floats(head.entry / kLine);
}

// Whether the kernel copies fast from one place in a line to another.
inline bool copies_fast(std::size_t from, std::size_t to) {
  const std::size_t further = (to + kLine - from) % kLine;
  return further == 0 || further >= kLine / 2;
}

}  // namespace mls
