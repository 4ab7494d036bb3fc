// What is sent instead of a gradient x, and what becomes of what is kept; comm/compressor.hpp has
// the three kinds. The arithmetic is that of the host, operation by operation.
#pragma once

#include "base/one.hpp"
#include "comm/compressor.hpp"

namespace mls::device {

struct Without {
  static constexpr Feedback kKind = Feedback::none;
  MLS_KERNEL static float sent(float x, float) { return x; }
  MLS_KERNEL static float kept(float, float, float) { return 0; }
};

struct Classic {
  static constexpr Feedback kKind = Feedback::classic;
  MLS_KERNEL static float sent(float x, float r) { return r + x; }
  MLS_KERNEL static float kept(float y, float told, float) { return y - told; }
};

struct Ef21 {
  static constexpr Feedback kKind = Feedback::ef21;
  MLS_KERNEL static float sent(float x, float h) { return x - h; }
  MLS_KERNEL static float kept(float, float told, float h) { return h + told; }
};

template <class Use>
void with_feedback(Feedback kind, Use use) {
  switch (kind) {
    case Feedback::classic:
      return use(Classic{});
    case Feedback::ef21:
      return use(Ef21{});
    default:
      return use(Without{});
  }
}

}  // namespace mls::device
