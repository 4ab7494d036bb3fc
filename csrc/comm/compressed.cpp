#include "comm/compressed.hpp"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "base/squares.hpp"
#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "codec/sparse.hpp"
#include "comm/frames.hpp"
#include "comm/hierarchical.hpp"
#include "comm/prepare.hpp"
#include "comm/story.hpp"

namespace mls {
namespace {

// To find out whether ranks mean the same compression.
int fingerprint(const Spec& spec, const Compression& how, std::uint64_t step) {
  std::uint64_t digest = key_of(step, how.seed);
  const auto mix = [&](double number) {
    digest = key_of(digest ^ std::bit_cast<std::uint64_t>(number), 1);
  };
  mix(static_cast<double>(spec.codec));
  mix(spec.amount);
  mix(static_cast<double>(spec.values));
  mix(spec.stochastic + 2 * spec.sampled + 4 * spec.unbiased);
  mix(static_cast<double>(how.feedback));
  mix(static_cast<double>(how.pattern));
  mix(how.momentum);
  mix(how.clip_norm);
  for (const Part part : how.parts) {
    mix(static_cast<double>(part.start));
    mix(static_cast<double>(part.length));
  }
  for (const Matrix& matrix : how.matrices) {
    mix(static_cast<double>(matrix.rows));
    mix(static_cast<double>(matrix.cols));
  }
  return static_cast<int>(digest & 0x7fffffff);
}

void exchange(const Wire& wire, std::span<float> x, Compressor& memory,
              const CompressedAllReduce& request) {
  const auto ranks = static_cast<std::size_t>(wire.size());
  const std::uint64_t key = key_of(memory.how().seed, request.step);
  std::span<float> y;
  {
    const Span span(wire.transport.trace(), "load");
    y = memory.load(x, ranks);
  }
  const double before = request.measure ? squares(y) : 0;
  FrameExchange frames(wire, request.spec, memory, key, y, x, request.measure);
  const Feedback feedback = memory.how().feedback;
  Pattern pattern = memory.how().pattern;
  if (pattern == Pattern::automatic || !can_travel(request.spec, feedback, pattern)) {
    pattern = pattern_for(request.spec, feedback, x.size(), ranks);
  }
  switch (pattern) {
    case Pattern::ring:
      frames.ring();
      break;
    case Pattern::same_elements:
      frames.same_elements();
      break;
    case Pattern::factors:
      frames.factors();
      break;
    case Pattern::balanced:
      frames.balanced();
      break;
    case Pattern::gather:
      frames.gather();
      break;
    default:
      frames.owners();
  }
  const bool known = request.measure && feedback != Feedback::none && before > 0;
  memory.error = known ? squares(y) / before : -1;
}

}  // namespace

bool can_travel(const Spec& spec, Feedback feedback, Pattern pattern) {
  const Codec& codec = codec_of(spec.codec);
  switch (pattern) {
    case Pattern::ring:
      // partial sums are no rank's own gradient, which ef21 needs
      return codec.combines == Combines::sum && !codec.sparse && feedback != Feedback::ef21;
    case Pattern::balanced:
      return spec.codec == CodecId::top_k;
    case Pattern::same_elements:
      return spec.codec == CodecId::random_k && spec.values == CodecId::none;
    case Pattern::factors:
      return spec.codec == CodecId::power_sgd;
    default:
      return true;
  }
}

Pattern pattern_for(const Spec& spec, Feedback feedback, std::size_t count, std::size_t ranks) {
  constexpr std::size_t kLatencyBound = 16 * 1024;  // bytes
  for (const Pattern sums : {Pattern::same_elements, Pattern::factors}) {
    if (can_travel(spec, feedback, sums)) return sums;
  }
  if (ranks <= 2 || (ranks - 1) * frame_bound(spec, count) <= kLatencyBound) return Pattern::gather;
  if (can_travel(spec, feedback, Pattern::ring)) return Pattern::ring;
  const bool selects = can_travel(spec, feedback, Pattern::balanced) && k_of(spec, count) >= ranks;
  return selects ? Pattern::balanced : Pattern::owners;
}

void compressed_all_reduce(Transport& transport, std::span<float> data, Compressor& memory,
                           const CompressedAllReduce& request) {
  memory.sent = {};
  {
    Story story("compressed all-reduce", transport, request.options, data.size_bytes());
    const bool fits = data.size() == memory.how().count;
    const Fault fault = fits ? request.options.fault : Fault::wrong_size;
    const Intent intent{
        .operation = Operation::compressed_all_reduce,
        .dtype = static_cast<int>(DType::f32),
        .detail = fingerprint(request.spec, memory.how(), request.step),
        .count = data.size(),
        .fault = request.options.fault == Fault::none ? fault : request.options.fault};
    story.tell([&] {
      prepare(transport, intent, request.options, story);
      if (request.spec.codec != CodecId::none &&
          !can_travel(request.spec, memory.how().feedback, memory.how().pattern)) {
        throw Failure(FailureKind::config,
                      "frames of " + std::string(codec_of(request.spec.codec).name) +
                          " with this error feedback cannot travel in the pattern of the "
                          "compressor; use 'auto'",
                      {}, true);
      }
      if (request.spec.codec == CodecId::power_sgd && memory.how().matrices.empty() &&
          memory.compressed() > 0) {
        throw Failure(FailureKind::config, "power_sgd compresses matrices, and was given none", {},
                      true);
      }
      if (transport.size() == 1 || memory.compressed() == 0) return;
      const std::size_t segment = request.options.segment(transport);
      Scratch packed(transport, memory.whole() ? 0 : memory.compressed() * sizeof(float));
      if (!memory.whole()) memory.gather(data, true, packed.floats());
      const std::span<float> x = memory.whole() ? data : packed.floats();
      const int nodes = 1 + *std::ranges::max_element(transport.nodes());
      // matrices cannot be cut into slices
      if (nodes > 1 && nodes < transport.size() && memory.how().matrices.empty()) {
        const auto between = [&](const Wire& outer, std::span<std::byte> slice) {
          const Wire wire{transport,        outer.group,      Channel::frames,
                          story.sequence(), story.deadline(), segment};
          exchange(wire, {reinterpret_cast<float*>(slice.data()), slice.size() / sizeof(float)},
                   memory, request);
        };
        in_levels(transport, std::as_writable_bytes(x), {}, intent, story, segment, between);
      } else {
        const Group all = Group::all(transport.rank(), transport.size());
        exchange({transport, all, Channel::frames, story.sequence(), story.deadline(), segment}, x,
                 memory, request);
      }
      if (!memory.whole()) memory.scatter(packed.floats(), true, data);
    });
  }
  if (transport.size() == 1) return memory.carry_on(data);
  if (memory.whole()) return;
  Scratch others(transport, (memory.how().count - memory.compressed()) * sizeof(float));
  const std::span<float> rest = others.floats();
  memory.gather(data, false, rest);
  Options options = request.options;
  options.label += " (not compressed)";
  all_reduce(transport, std::as_writable_bytes(rest), {.options = options});
  memory.carry_on(rest);
  memory.scatter(rest, false, data);
  memory.sent += ring_sent(static_cast<std::size_t>(transport.rank()),
                           parts_of(rest.size(), static_cast<std::size_t>(transport.size())),
                           {rest.size(), sizeof(float), request.options.segment(transport)});
}

}  // namespace mls
