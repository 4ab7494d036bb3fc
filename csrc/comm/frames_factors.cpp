#include <vector>

#include "codec/low_rank.hpp"
#include "comm/cost.hpp"
#include "comm/frames.hpp"
#include "comm/ring.hpp"

namespace mls {

void FrameExchange::factors() {
  divide({});
  const auto rank = static_cast<std::size_t>(spec_.amount);
  const Matrices matrices = memory_.how().matrices;
  Scratch memory(wire_.transport, p_count(matrices, rank) * sizeof(float));
  const std::span<float> p = memory.floats();
  std::vector<float>& q = memory_.basis;  // lives on with the compressor
  if (q.size() != q_count(matrices, rank)) {
    q.resize(q_count(matrices, rank));
    draw_q({key_, 0}, q);
  }
  const auto add_up = [&](std::span<float> factor) {
    ring_all_reduce(wire_, std::as_writable_bytes(factor), {});
    memory_.sent += ring_sent(own(), parts_of(factor.size(), size()),
                              {factor.size(), sizeof(float), wire_.segment_bytes});
  };
  multiply_q(matrices, rank, y_.data(), q.data(), p.data());
  add_up(p);
  orthonormalise(matrices, rank, p.data());
  multiply_p(matrices, rank, y_.data(), p.data(), q.data());
  if (feedback_ == Feedback::classic || measure_) {
    add_expanded(matrices, rank, p.data(), q.data(), -1, y_.data());
  }
  if (feedback_ == Feedback::ef21) {
    add_expanded(matrices, rank, p.data(), q.data(), 1, memory_.residual.data());
  }
  add_up(q);
  if (feedback_ == Feedback::ef21) {
    add_expanded(matrices, rank, p.data(), q.data(), 1, memory_.estimate.data());
  } else {
    expand(matrices, rank, p.data(), q.data(), out_.data());
  }
  finish();
}

}  // namespace mls
