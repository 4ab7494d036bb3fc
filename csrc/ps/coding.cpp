#include "ps/coding.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mls {
namespace {

Payload payload_of(const Spec& spec, const Buffer& frame, std::size_t count) {
  return {frame.bytes().subspan(sizeof(FrameHeader)), count, spec.values};
}

Buffer buffer_of(std::span<const std::byte> bytes, Pool& pool) {
  Buffer buffer = pool.take(bytes.size());
  std::ranges::copy(bytes, buffer.bytes().begin());
  return buffer;
}

}  // namespace

Buffer encode_all(const Spec& spec, std::span<const float> x, Draw draw, Pool& pool) {
  Buffer frame = pool.take(frame_bound(spec, x.size()));
  frame.size = encode_frame(spec, x, draw, frame.bytes());
  return frame;
}

Buffer encode_rest(const Spec& spec, std::span<float> x, Draw draw, Pool& pool) {
  Buffer frame = encode_all(spec, x, draw, pool);
  codec_of(spec.codec).add(payload_of(spec, frame, x.size()), -1, x.data());
  return frame;
}

std::optional<Buffer> Told::tell(int worker, std::span<const float> parameters,
                                 std::uint64_t updates, Pool& pool) {
  std::shared_ptr<State>& now = told_[static_cast<std::size_t>(worker)];
  if (!now) {
    for (const std::shared_ptr<State>& other : told_) {
      if (other && other->exact && other->updates == updates) now = other;
    }
    if (!now) {
      now = std::make_shared<State>();
      now->values.assign(parameters.begin(), parameters.end());
      now->updates = updates;
      now->exact = true;
    }
    return std::nullopt;
  }
  std::shared_ptr<State> next = now->next.lock();
  if (!next || next->turn != now->next_turn || next->updates != updates) {
    std::vector<float> difference = std::move(spare_);
    difference.resize(parameters.size());
    for (std::size_t i = 0; i < difference.size(); ++i) {
      difference[i] = parameters[i] - now->values[i];
    }
    again_ = updates == updates_ ? again_ + 1 : 0;
    updates_ = updates;
    const Draw draw{key_of(key_of(stream_, updates), again_), 0};
    Buffer frame = encode_all(spec_, difference, draw, pool);
    // memory of the difference becomes that of the next state, unless this one ends here
    const bool alone = now.use_count() == 1;
    next = alone ? now : std::make_shared<State>();
    if (alone) {
      spare_ = std::move(difference);
    } else {
      std::ranges::copy(now->values, difference.begin());
      next->values = std::move(difference);
    }
    codec_of(spec_.codec).add(payload_of(spec_, frame, parameters.size()), 1, next->values.data());
    next->updates = updates;
    next->exact = false;
    next->next.reset();
    ++next->turn;
    if (alone) return frame;
    now->next = next;
    now->next_turn = next->turn;
    now->frame.assign(frame.bytes().begin(), frame.bytes().end());
  }
  Buffer frame = buffer_of(now->frame, pool);
  if (now.use_count() == 1) spare_ = std::move(now->values);
  now = std::move(next);
  return frame;
}

}  // namespace mls
