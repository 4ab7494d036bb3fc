// Values of dense tables as frames, and what is kept so that nothing is lost by it.
//
//   push  r += g; sent = C(r); r -= sent     r: a worker's, of its part of each server's share
//   pull  sent = C(w - e); e += sent         e: what a worker was told, which both sides know
//
// So a server's error feedback is that it sends differences to what it has told: what a frame left
// out is in the next difference (DoubleSqueeze: Tang et al. 2019; its form is EF21's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "ps/buffer.hpp"

namespace mls {

// A frame of x, which becomes what the frame does not say.
Buffer encode_rest(const Spec& spec, std::span<float> x, Draw draw, Pool& pool);

// A frame of x.
Buffer encode_all(const Spec& spec, std::span<const float> x, Draw draw, Pool& pool);

// What the workers were told about a server's share of a table. Workers that were told the same
// have it in common, and what brings them to the same parameters is encoded once: with bsp all of
// them.
class Told {
 public:
  // stream: of this share's random numbers.
  Told(const Spec& spec, int workers, std::uint64_t stream)
      : spec_(spec), stream_(stream), told_(static_cast<std::size_t>(workers)) {}

  // The frame that brings a worker to the parameters after so many updates, or nothing where it
  // was told nothing before: then it gets all of them as they are.
  std::optional<Buffer> tell(int worker, std::span<const float> parameters, std::uint64_t updates,
                             Pool& pool);

  void forget(int worker) { told_[static_cast<std::size_t>(worker)].reset(); }
  void forget_all() { told_.assign(told_.size(), nullptr); }

 private:
  struct State {
    std::vector<float> values;
    std::uint64_t updates = 0;    // of the parameters that these are, or come close to
    bool exact = false;           // they are these parameters
    std::uint64_t turn = 0;       // which values of this state these are
    std::weak_ptr<State> next{};  // where the frame leads, if that has not gone on since
    std::uint64_t next_turn = 0;
    std::vector<std::byte> frame{};
  };

  const Spec spec_;
  const std::uint64_t stream_;
  std::uint64_t updates_ = 0;  // of what was encoded last
  std::uint64_t again_ = 0;  // how often parameters of so many updates were, beside the first time
  std::vector<std::shared_ptr<State>> told_;  // by worker
  std::vector<float> spare_;
};

}  // namespace mls
