// What an owner keeps when the next step cuts the array in another way, or has no owners: patterns
// depend on the codec, and that of a step may be another one (warm-up, falling ratios).
#include <numeric>
#include <vector>

#include "comm/division.hpp"
#include "comm/frames.hpp"

namespace mls {
namespace {

// How many elements a rank owns.
std::size_t share_of(Division how, std::size_t owner, std::size_t count, std::size_t ranks) {
  if (how.pattern == Pattern::owners) {
    return parts_of_granules(count, how.granule, ranks)[owner].length;
  }
  return how.pattern == Pattern::balanced ? Cyclic{count, ranks}.share(owner) : 0;
}

// The elements that a rank owns, in the order in which it keeps them.
std::vector<std::size_t> elements_of(Division how, std::size_t owner, std::size_t count,
                                     std::size_t ranks) {
  std::vector<std::size_t> elements(share_of(how, owner, count, ranks));
  if (how.pattern == Pattern::owners) {
    const Part part = parts_of_granules(count, how.granule, ranks)[owner];
    std::iota(elements.begin(), elements.end(), part.start);
  } else {
    const Cyclic layout{count, ranks};
    for (std::size_t i = 0; i < elements.size(); ++i) elements[i] = layout.element(owner, i);
  }
  return elements;
}

}  // namespace

void FrameExchange::divide(Division how) {
  if (feedback_ == Feedback::none) return;
  std::vector<float>& owned = memory_.owned;
  const Division before = memory_.division();
  const bool fits = owned.size() == share_of(before, own(), y_.size(), size());
  if (how == before && fits) return;
  if (fits) {
    const std::vector<std::size_t> old = elements_of(before, own(), y_.size(), size());
    for (std::size_t i = 0; i < old.size(); ++i) {
      if (feedback_ == Feedback::classic) {
        y_[old[i]] += owned[i];
      } else {
        // as if the gap between the sum of all h and what was told were this rank's own
        const float gap = owned[i] - memory_.estimate[old[i]];
        memory_.residual[old[i]] -= gap;
        y_[old[i]] += gap;
      }
    }
  }
  const std::vector<std::size_t> now = elements_of(how, own(), y_.size(), size());
  owned.assign(now.size(), 0);
  if (feedback_ == Feedback::ef21) {
    for (std::size_t i = 0; i < now.size(); ++i) owned[i] = memory_.estimate[now[i]];
  }
  memory_.divide(how);
}

}  // namespace mls
