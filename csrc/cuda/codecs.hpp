// Frames on a machine that runs kernels in order, a GPU's stream or the host; byte for byte those
// of codec/frame.hpp.
//
// A machine has
//   run(work, kernel)      as many teams as there is work for, at most as many as run at a time
//   run_few(work, kernel)  the same for kernels that begin with much work of their own
//   run_all(teams, kernel) so many teams
//   room<T>(count)         memory until all that was started so far is done
//   zero, copy             of memory
//
// Nothing here waits for the machine. Arrays and frames are in its memory; frames start at a
// multiple of 16 bytes and have room for their bound, up to the next multiple of 4.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>

#include "base/failure.hpp"
#include "codec/frame.hpp"
#include "cuda/checksum.hpp"
#include "cuda/dense.hpp"
#include "cuda/select.hpp"
#include "cuda/selected.hpp"
#include "cuda/sparse.hpp"

namespace mls::device {

// An array of float32, and what error feedback keeps of it, of as many elements.
struct Gradient {
  const float* x;
  std::size_t count;
  mls::Feedback feedback = mls::Feedback::none;
  float* kept = nullptr;
};

template <class Machine>
class Codecs {
 public:
  explicit Codecs(Machine& machine) : machine_(machine) {}

  // Makes a frame; its header says how long it is. With feedback, `kept` is what it is after that.
  void encode(const Spec& spec, const Gradient& gradient, Draw draw, std::byte* frame) {
    with_feedback(gradient.feedback, [&](auto feedback) {
      switch (spec.codec) {
        case CodecId::top_k:
        case CodecId::threshold:
          return encode_selected<decltype(feedback)>(spec, gradient, draw, frame);
        case CodecId::random_k:
          return encode_drawn<decltype(feedback)>(spec, gradient, draw, frame);
        default: {
          const Fixed where{frame + sizeof(FrameHeader), gradient.count};
          encode_dense<decltype(feedback)>(spec, {gradient.x, gradient.kept}, gradient.count, where,
                                           draw);
          return seal(spec, gradient.count, frame,
                      Fixed{where.payload, payload_bytes(spec, gradient.count)});
        }
      }
    });
  }

  // into[i] = decoded[i], or += factor * decoded[i], for a frame of `count` elements. Its bytes
  // were checked where it came from; what they name beyond the array is left out.
  void decode(const Spec& spec, std::size_t count, const std::byte* frame, std::size_t bytes,
              float* into) {
    if (codec_of(spec.codec).sparse) machine_.zero(into, count * sizeof(float));
    const std::span<const std::byte> one(frame, bytes);
    deliver_frames(spec, count, {&one, 1}, Put{}, into);
  }

  // The same of one frame after the other.
  void add(const Spec& spec, std::size_t count, std::span<const std::span<const std::byte>> frames,
           float factor, float* into) {
    for (std::size_t first = 0; first < frames.size(); first += kMostFrames) {
      const std::size_t now = std::min(kMostFrames, frames.size() - first);
      deliver_frames(spec, count, frames.subspan(first, now), AddTimes{factor}, into);
    }
  }

  // into[i] = 0 for the elements that a frame of a sparse codec names.
  void clear(const Spec& spec, std::size_t count, const std::byte* frame, std::size_t bytes,
             float* into) {
    if (!codec_of(spec.codec).sparse) {
      throw Failure(FailureKind::config, "only frames of sparse codecs name elements");
    }
    const std::span<const std::byte> one(frame, bytes);
    deliver_frames(spec, count, {&one, 1}, Clear{}, into);
  }

 private:
  static constexpr std::size_t kTeam = 256;

  static std::size_t payload_bytes(const Spec& spec, std::size_t count) {
    return codec_of(spec.codec).bound(spec, count);
  }

  template <class Feedback, class Where>
  void encode_dense(const Spec& spec, Source source, std::size_t most, Where where, Draw draw) {
    const auto cast = [&](auto format) {
      using Cast = typename decltype(format)::One;
      machine_.run(ceil_div(most, kTile), EncodeCast<Cast, Feedback, Where>{source, where});
    };
    const auto blocks = [&](auto kind) {
      machine_.run(ceil_div(most, kScaled),
                   EncodeBlocks<decltype(kind), Feedback, Where>{source, where, draw});
    };
    switch (spec.codec) {
      case CodecId::none:
        return cast(CastFormat<Float32>{});
      case CodecId::fp16:
        return cast(CastFormat<Float16>{});
      case CodecId::bf16:
        return cast(CastFormat<BFloat16>{});
      case CodecId::fp8_e4m3:
        return cast(CastFormat<Float8E4M3>{});
      case CodecId::fp8_e5m2:
        return cast(CastFormat<Float8E5M2>{});
      case CodecId::int8:
        return spec.stochastic ? blocks(LevelCoder<8, true>{}) : blocks(LevelCoder<8, false>{});
      case CodecId::int4:
        return spec.stochastic ? blocks(LevelCoder<4, true>{}) : blocks(LevelCoder<4, false>{});
      case CodecId::int2:
        return spec.stochastic ? blocks(LevelCoder<2, true>{}) : blocks(LevelCoder<2, false>{});
      case CodecId::ternary:
        return blocks(LevelCoder<2, true>{});
      case CodecId::natural:
        return blocks(PowerCoder{});
      case CodecId::sign:
        machine_.run(ceil_div(most, kScaled), EncodeSigns<Feedback, Where>{source, where});
        return;
      default:
        throw Failure(FailureKind::config,
                      std::string(codec_of(spec.codec).name) + " has no frames on the device");
    }
  }

  template <class Feedback>
  void encode_selected(const Spec& spec, const Gradient& gradient, Draw draw, std::byte* frame) {
    const std::size_t n = gradient.count;
    const bool given = spec.codec == CodecId::threshold;
    const std::size_t most = given ? n : k_of(spec, n);
    const std::size_t tiles = ceil_div(n, kTile);
    const Sample sample = given ? Sample{} : sample_for(n, most, spec.sampled, draw);
    const std::size_t listed = given ? 0 : std::min(n, 2 * most + kLeastListed);

    const auto progress = machine_.template room<Progress>(1);
    const auto sent = machine_.template room<float>(
        Feedback::kKind == mls::Feedback::ef21 ? std::max<std::size_t>(n, 1) : 1);
    const auto candidate_indices = machine_.template room<std::uint32_t>(listed + 1);
    const auto candidate_values = machine_.template room<float>(listed + 1);
    const auto tile_counts = machine_.template room<std::uint32_t>(4 * tiles);
    const auto indices = machine_.template room<std::uint32_t>(most + 1);
    const auto values = machine_.template room<float>(most + 1);
    Progress* const now = progress.get();
    const Candidates candidates{candidate_indices.get(), candidate_values.get(), tile_counts.get(),
                                tile_counts.get() + tiles, static_cast<std::uint32_t>(listed)};
    std::uint32_t* const above = tile_counts.get() + 2 * tiles;
    std::uint32_t* const ties = tile_counts.get() + 3 * tiles;
    const Source source{gradient.x, gradient.kept};
    const float* const y = Feedback::kKind == mls::Feedback::classic ? gradient.kept
                           : Feedback::kKind == mls::Feedback::ef21  ? sent.get()
                                                                     : gradient.x;

    const std::uint32_t from = given ? magnitude_bits(static_cast<float>(spec.amount)) + 1 : 0;
    machine_.run_all(1, Begin{now, static_cast<std::uint32_t>(sample.rank), from});
    if (sample.rank > 0) {
      find(now, OfSample<Feedback>{source, n, sample.key, sample.size},
           ceil_div(sample.size, kTeam));
    }
    machine_.run(tiles,
                 Collect<Feedback>{source, n, sent.get(), candidates, given ? nullptr : now});
    const std::size_t enough = spec.sampled ? most - most / 2 : most;
    machine_.run_all(
        1, Refine{now, given ? 0 : static_cast<std::uint32_t>(most),
                  static_cast<std::uint32_t>(enough), static_cast<std::uint32_t>(listed)});
    if (!given) {
      // all elements are seldom looked at, and then by few teams
      find(now, OfChosen{candidates.values, y, n}, ceil_div(std::max(listed, n / 64), kTile));
    }
    const Choice choice{y, n, candidates, now};
    machine_.run(tiles, CountTiles{choice, above, ties});
    machine_.run_all(2, AddUpTiles{above, ties, tiles, now});
    machine_.run(tiles, WriteSelected{choice, above, ties, indices.get(), values.get()});

    std::byte* const payload = frame + sizeof(FrameHeader);
    const Selected selected{indices.get(), values.get(), 0, now};
    // the code of fewer indices may be a byte longer
    const std::size_t longer = given || spec.sampled ? 1 : 0;
    machine_.zero(payload, sizeof(std::uint32_t) + index_code_size(most, n) + longer);
    machine_.run(ceil_div(most, kTeam), PutIndices{payload, selected, n});
    finish_sparse<Feedback>(spec, gradient, draw, frame, BehindCode{payload, selected, n}, most);
  }

  // The values, what is kept, and the header.
  template <class Feedback>
  void finish_sparse(const Spec& spec, const Gradient& gradient, Draw draw, std::byte* frame,
                     const BehindCode& where, std::size_t most) {
    const Spec inner{.codec = spec.values, .stochastic = spec.stochastic};
    encode_dense<Without>(inner, {where.selected.values, nullptr}, most, where, draw);
    with_format(spec.values, [&](auto format) {
      using Format = decltype(format);
      settle<Format, Feedback>(where.selected, where, gradient.kept, most);
      seal(spec, gradient.count, frame, AllOf<Format>{where});
    });
  }

  template <class Feedback>
  void encode_drawn(const Spec& spec, const Gradient& gradient, Draw draw, std::byte* frame) {
    const std::size_t n = gradient.count;
    const std::size_t k = k_of(spec, n);
    const auto sent = machine_.template room<float>(
        Feedback::kKind == mls::Feedback::ef21 ? std::max<std::size_t>(n, 1) : 1);
    const auto tile_counts = machine_.template room<std::uint32_t>(2 * ceil_div(n, kTile) + 1);
    const auto indices = machine_.template room<std::uint32_t>(k + 1);
    const auto values = machine_.template room<float>(k + 1);
    const float* y = gradient.x;
    if constexpr (Feedback::kKind != mls::Feedback::none) {
      // nothing is a candidate: only the gradient is taken in
      std::uint32_t* const starts = tile_counts.get();
      const Candidates none{nullptr, nullptr, starts, starts + ceil_div(n, kTile), 0};
      machine_.run(ceil_div(n, kTile),
                   Collect<Feedback>{{gradient.x, gradient.kept}, n, sent.get(), none, nullptr});
      y = Feedback::kKind == mls::Feedback::classic ? gradient.kept : sent.get();
    }
    std::byte* const payload = frame + sizeof(FrameHeader);
    machine_.run(ceil_div(k, kTeam), DrawElements{y, n, k, random_k_key(draw), spec.unbiased,
                                                  payload, indices.get(), values.get()});
    const Selected selected{indices.get(), values.get(), static_cast<std::uint32_t>(k), nullptr};
    const Fixed where{payload + kRandomKHeader, k};
    const Spec inner{.codec = spec.values, .stochastic = spec.stochastic};
    encode_dense<Without>(inner, {values.get(), nullptr}, k, where, draw);
    with_format(spec.values, [&](auto format) {
      settle<decltype(format), Feedback>(selected, where, gradient.kept, k);
    });
    seal(spec, n, frame, Fixed{payload, payload_bytes(spec, n)});
  }

  template <class Format, class Feedback, class Where>
  void settle(const Selected& selected, const Where& where, float* kept, std::size_t most) {
    if constexpr (Feedback::kKind != mls::Feedback::none) {
      machine_.run(ceil_div(most, kTeam), Settle<Format, Feedback, Where>{selected, where, kept});
    }
  }

  // Looks for the digits of the wanted-th largest magnitude.
  template <class Of>
  void find(Progress* progress, const Of& of, std::size_t teams) {
    for (int digit = 0; digit <= kLastDigit; ++digit) {
      machine_.run(teams, CountDigits<Of>{of, progress, digit});
      machine_.run_all(1, PickDigit{progress, Of::kSelects, digit});
    }
  }

  template <class Where>
  void seal(const Spec& spec, std::size_t count, std::byte* frame, const Where& where) {
    Head head{header_of(spec, count, 0), 0};
    if constexpr (Where::kOnHost) head = head_of(head.header, where.length());
    const auto sum = machine_.template room<std::uint32_t>(1);
    machine_.zero(sum.get(), sizeof(std::uint32_t));
    const std::size_t words = payload_bytes(spec, count) / 4;
    machine_.run_few(ceil_div(words, SumWords<Where>::kStretch), SumWords<Where>{where, sum.get()});
    machine_.run_all(1, WriteHeader<Where>{head, where, sum.get(), frame});
  }

  // Of kMostFrames at most.
  template <class Deliver>
  void deliver_frames(const Spec& spec, std::size_t count,
                      std::span<const std::span<const std::byte>> frames, const Deliver& how,
                      float* into) {
    if (spec.codec == CodecId::power_sgd) {
      throw Failure(FailureKind::config, "power_sgd has no frames on the device");
    }
    if (spec.codec == CodecId::top_k || spec.codec == CodecId::threshold) {
      return with_format(spec.values, [&](auto format) {
        scatter_coded<decltype(format)>(spec, count, frames, how, into);
      });
    }
    for (const auto& frame : frames) deliver_frame(spec, count, payload_of(frame), how, into);
  }

  static std::span<const std::byte> payload_of(std::span<const std::byte> frame) {
    return frame.subspan(std::min(frame.size(), sizeof(FrameHeader)));
  }

  template <class Deliver>
  void deliver_frame(const Spec& spec, std::size_t count, std::span<const std::byte> payload,
                     const Deliver& how, float* into) {
    if constexpr (!std::is_same_v<Deliver, Clear>) {
      if (!codec_of(spec.codec).sparse) {
        if (payload_bytes(spec, count) > payload.size()) refuse_length(spec, payload.size());
        return with_format(spec.codec, [&](auto format) {
          machine_.run(ceil_div(count, kTile),
                       Decode<decltype(format), Deliver>{payload.data(), count, how, into});
        });
      }
    }
    with_format(spec.values, [&](auto format) {
      using Format = decltype(format);
      if (payload.size() < kRandomKHeader) refuse_length(spec, payload.size());
      const std::size_t most = fitting<Format>(payload.size() - kRandomKHeader, count);
      machine_.run(ceil_div(most, kTeam),
                   ScatterDrawn<Format, Deliver>{payload.data(), most, count, how, into});
    });
  }

  // The marks of all frames are counted at once; they are added one after the other.
  template <class Format, class Deliver>
  void scatter_coded(const Spec& spec, std::size_t count,
                     std::span<const std::span<const std::byte>> frames, const Deliver& how,
                     float* into) {
    CodedFrames coded{};
    std::size_t stretches = 0;  // of the longest
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const std::span<const std::byte> payload = payload_of(frames[i]);
      if (payload.size() < sizeof(std::uint32_t)) refuse_length(spec, payload.size());
      coded.frames[i] = {payload.data(), payload.size(), count};
      // whatever k is: n / 2^low is less than 2 k, and less than n
      const std::size_t most = fitting<Format>(payload.size() - sizeof(std::uint32_t), count);
      const std::size_t most_bits = std::min(3 * most, most + count);
      stretches = std::max(stretches, ceil_div(most_bits, kStretchBits));
    }
    if (stretches == 0) return;
    const auto counts = machine_.template room<std::uint32_t>(frames.size() * stretches);
    machine_.run_all(frames.size() * stretches, CountMarks{coded, stretches, counts.get()});
    machine_.run_all(frames.size(), AddUpMarks{counts.get(), stretches});
    for (std::size_t i = 0; i < frames.size(); ++i) {
      machine_.run_all(stretches, ScatterCoded<Format, Deliver>{
                                      {coded.frames[i]}, counts.get() + i * stretches, how, into});
    }
  }

  // The most values whose payload has this many bytes; `count` at most.
  template <class Format>
  static std::size_t fitting(std::size_t bytes, std::size_t count) {
    std::size_t low = 0;
    for (std::size_t high = count; low < high;) {
      const std::size_t middle = high - (high - low) / 2;
      if (Format::bytes(middle) <= bytes) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  [[noreturn]] static void refuse_length(const Spec& spec, std::size_t length) {
    throw Failure(FailureKind::corrupt, "a damaged frame: " + std::to_string(length) +
                                            " bytes are no payload of " +
                                            std::string(codec_of(spec.codec).name));
  }

  static std::uint32_t magnitude_bits(float x) {
    return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu;
  }

  static constexpr std::size_t kLeastListed = 16384;  // candidates that there is always room for

  Machine& machine_;
};

}  // namespace mls::device
