// Compressed all-reduce over threads: every pattern, codec and feedback, for 1 to 8 ranks.
#include "comm/compressed.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "comm/frames.hpp"
#include "harness.hpp"

using namespace mls;
using test::on_ranks;

namespace {

constexpr int kWorlds[] = {1, 2, 3, 4, 5, 7, 8};
constexpr std::size_t kSizes[] = {0, 1, 5, 257, 3000};
constexpr Feedback kFeedbacks[] = {Feedback::none, Feedback::classic, Feedback::ef21};

std::vector<float> gradient(int rank, std::uint64_t step, std::size_t count) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = random_bits(static_cast<std::uint64_t>(rank) * 100 + step, i);
    x[i] = static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-31f;
  }
  return x;
}

struct Outcome {
  std::vector<std::vector<float>> results;  // of each rank, after the last step
  std::vector<double> told;                 // the sum over all steps of what the ranks were told
  std::vector<double> given;                // the sum of all gradients
  std::vector<double> kept;                 // the sum of all residuals, those of owners aside
  double owed = 0;                          // the sum of what all owners have kept
  std::vector<double> error;                // of each rank, in the last step
  std::vector<Sent> sent;                   // by each rank, in the last step
};

// Runs some steps on `ranks` ranks.
Outcome train(int ranks, std::size_t count, const Spec& spec, Compression how, int steps,
              std::vector<Part> parts = {}, std::vector<int> nodes = {}) {
  how.count = count;
  how.parts = parts.empty() ? std::vector<Part>{{0, count}} : parts;
  if (spec.codec == CodecId::power_sgd) how.matrices = {{0, 20, count / 20}};
  const auto size = static_cast<std::size_t>(ranks);
  Outcome outcome;
  outcome.results.resize(size);
  outcome.sent.resize(size);
  outcome.told.resize(count);
  outcome.given.resize(count);
  outcome.kept.resize(count);
  outcome.error.resize(size);
  std::vector<std::vector<float>> residuals(size);
  std::vector<std::vector<float>> owned(size);
  std::vector<std::vector<double>> told(size, std::vector<double>(count));
  const auto failures = on_ranks(ranks, [&](Transport& transport) {
    const auto rank = static_cast<std::size_t>(transport.rank());
    if (!nodes.empty()) transport.place(nodes);
    Compressor memory(how);
    for (int step = 0; step < steps; ++step) {
      std::vector<float> x = gradient(transport.rank(), static_cast<std::uint64_t>(step), count);
      compressed_all_reduce(
          transport, x, memory,
          {.spec = spec, .step = static_cast<std::uint64_t>(step), .measure = step + 1 == steps});
      for (std::size_t i = 0; i < count; ++i) told[rank][i] += x[i];
      outcome.results[rank] = x;
    }
    residuals[rank] = memory.residual;
    owned[rank] = memory.owned;
    outcome.error[rank] = memory.error;
    outcome.sent[rank] = memory.sent;
  });
  for (const auto& failure : failures) CHECK(!failure);
  outcome.told = told[0];
  for (const auto& part : owned) {
    for (const float value : part) outcome.owed += double{value};
  }
  for (int rank = 0; rank < ranks; ++rank) {
    for (int step = 0; step < steps; ++step) {
      const std::vector<float> x = gradient(rank, static_cast<std::uint64_t>(step), count);
      for (std::size_t i = 0; i < count; ++i) outcome.given[i] += double{x[i]};
    }
    const std::vector<float>& residual = residuals[static_cast<std::size_t>(rank)];
    for (std::size_t i = 0; i < residual.size(); ++i) outcome.kept[i] += double{residual[i]};
  }
  return outcome;
}

double total(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// What every codec accepts of a few specs.
std::vector<Spec> specs() {
  std::vector<Spec> all;
  for (const Codec* codec : codecs()) {
    if (codec == nullptr) continue;
    for (const double amount : {0.0, 0.05, 2.0}) {
      const Spec spec{.codec = codec->id, .amount = amount};
      if (codec->accepts(spec)) all.push_back(spec);
    }
  }
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

TEST(without_compression_the_sum_is_exact_in_every_pattern) {
  for (const int ranks : kWorlds) {
    for (const std::size_t count : kSizes) {
      for (const Pattern pattern :
           {Pattern::automatic, Pattern::ring, Pattern::owners, Pattern::gather}) {
        for (const Feedback feedback : kFeedbacks) {
          if (pattern == Pattern::ring && feedback == Feedback::ef21) continue;
          const Outcome outcome =
              train(ranks, count, {}, {.feedback = feedback, .pattern = pattern}, 1);
          for (const std::vector<float>& result : outcome.results) {
            CHECK(same_bits(result, outcome.results[0]));
            for (std::size_t i = 0; i < count; ++i) {
              CHECK(std::abs(result[i] - outcome.given[i]) < 1e-5);
            }
          }
        }
      }
    }
  }
}

TEST(all_ranks_have_the_same_bits_whatever_the_codec) {
  for (const Spec& spec : specs()) {
    for (const int ranks : kWorlds) {
      for (const Feedback feedback : kFeedbacks) {
        const Outcome outcome = train(ranks, 3000, spec, {.feedback = feedback}, 3);
        for (const std::vector<float>& result : outcome.results) {
          CHECK(same_bits(result, outcome.results[0]));
        }
      }
    }
  }
}

// Error feedback forgets nothing: what the ranks were told and what is kept are what was given.
TEST(classic_feedback_keeps_what_is_not_sent) {
  constexpr Pattern kPatterns[] = {Pattern::automatic, Pattern::owners, Pattern::gather};
  for (const Spec& spec : specs()) {
    for (const int ranks : {2, 3, 4, 7}) {
      for (const Pattern pattern : kPatterns) {
        const Compression how{.feedback = Feedback::classic, .pattern = pattern};
        const Outcome outcome = train(ranks, 3000, spec, how, 5);
        const double kept = total(outcome.kept) + outcome.owed;
        CHECK(std::abs(total(outcome.told) + kept - total(outcome.given)) < 0.01);
        if (pattern != Pattern::gather) continue;
        for (std::size_t i = 0; i < 3000; ++i) {
          CHECK(std::abs(outcome.told[i] + outcome.kept[i] - outcome.given[i]) < 1e-4);
        }
      }
    }
  }
}

// With gradients that do not change, ef21 finds their sum.
TEST(ef21_converges_to_the_sum) {
  for (const Pattern pattern : {Pattern::owners, Pattern::gather, Pattern::balanced}) {
    const auto failures = on_ranks(4, [&](Transport& transport) {
      Compressor memory(
          {.count = 2000, .parts = {{0, 2000}}, .feedback = Feedback::ef21, .pattern = pattern});
      std::vector<float> x;
      for (std::uint64_t step = 0; step < 100; ++step) {
        x = gradient(transport.rank(), 0, 2000);
        compressed_all_reduce(transport, x, memory,
                              {.spec = {.codec = CodecId::top_k, .amount = 0.1}, .step = step});
      }
      for (std::size_t i = 0; i < x.size(); ++i) {
        float sum = 0;
        for (int rank = 0; rank < 4; ++rank) sum += gradient(rank, 0, 2000)[i];
        CHECK(std::abs(x[i] - sum) < 1e-4);
      }
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

// What owners keep is of elements that they may not own in the next step.
TEST(what_owners_keep_survives_another_division) {
  constexpr std::size_t kCount = 12288;  // parts of the same size in all divisions
  constexpr CodecId kCodecs[] = {CodecId::int8, CodecId::bf16,  CodecId::top_k,   CodecId::int8,
                                 CodecId::sign, CodecId::top_k, CodecId::random_k};
  for (const Feedback feedback : {Feedback::classic, Feedback::ef21}) {
    std::vector<double> told(kCount);
    const auto failures = on_ranks(3, [&](Transport& transport) {
      const auto rank = static_cast<std::size_t>(transport.rank());
      Compressor memory({.count = kCount, .parts = {{0, kCount}}, .feedback = feedback});
      std::vector<float> x;
      const auto exchange = [&](const Spec& spec, std::uint64_t step) {
        x = gradient(transport.rank(), 0, kCount);
        compressed_all_reduce(transport, x, memory, {.spec = spec, .step = step});
        for (std::size_t i = 0; i < kCount && rank == 0; ++i) told[i] += double{x[i]};
      };
      std::uint64_t step = 0;
      for (const CodecId codec : kCodecs) {
        const bool sparse = codec_of(codec).sparse;
        // long enough frames for owners, then short ones that all gather
        for (const double amount : {0.9, 0.05}) {
          exchange({.codec = codec, .amount = sparse ? amount : 0}, step++);
        }
      }
      const std::uint64_t steps = step;
      // nothing is left out: what was kept comes along
      exchange({}, step++);
      exchange({}, step++);
      std::vector<double> sum(kCount);
      for (int peer = 0; peer < 3; ++peer) {
        const std::vector<float> own = gradient(peer, 0, kCount);
        for (std::size_t i = 0; i < kCount; ++i) sum[i] += double{own[i]};
      }
      for (std::size_t i = 0; i < kCount; ++i) {
        if (feedback == Feedback::ef21) {
          CHECK(std::abs(double{x[i]} - sum[i]) < 1e-3);
        } else if (rank == 0) {
          CHECK(std::abs(told[i] - sum[i] * static_cast<double>(steps + 2)) < 1e-3);
        }
      }
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

// The code of fewer indices is longer where it needs a bit more for each.
TEST(sparse_parts_that_are_shorter_have_room) {
  for (const double amount : {0.25, 0.5}) {
    const Spec spec{.codec = CodecId::top_k, .amount = amount, .values = CodecId::sign};
    for (const Spec& each : {spec, Spec{.codec = CodecId::top_k, .amount = amount}}) {
      for (std::size_t count = 1; count < 80; ++count) {
        const Outcome outcome = train(2, count, each, {.pattern = Pattern::owners}, 1);
        CHECK(same_bits(outcome.results[0], outcome.results[1]));
      }
    }
  }
}

TEST(a_balanced_sparse_exchange_sends_fewer_than_6k_numbers) {
  constexpr std::size_t kCount = 100000;
  const Spec spec{.codec = CodecId::top_k, .amount = 0.01};
  for (const int ranks : {2, 3, 4, 7, 8, 16}) {
    const Outcome outcome = train(ranks, kCount, spec,
                                  {.feedback = Feedback::classic, .pattern = Pattern::balanced}, 2);
    for (const Sent& sent : outcome.sent) {
      // an index and a value are two numbers of four bytes; frames have headers
      const std::uint64_t frames = sent.messages * (sizeof(FrameHeader) + 4 + 2);
      CHECK(sent.bytes - frames < 6 * 4 * kCount / 100);
    }
  }
}

TEST(what_is_sent_has_a_formula) {
  constexpr std::size_t kCount = 5000;
  for (const Spec& spec : specs()) {
    const Codec& codec = codec_of(spec.codec);
    if (!codec.fixed_size || codec.sparse || spec.codec == CodecId::power_sgd) continue;
    for (int ranks = 2; ranks <= 8; ++ranks) {
      const auto size = static_cast<std::size_t>(ranks);
      const Outcome gathered = train(ranks, kCount, spec, {.pattern = Pattern::gather}, 1);
      const Outcome owned = train(ranks, kCount, spec, {.pattern = Pattern::owners}, 1);
      const std::size_t granules = ceil_div(kCount, codec.granule);
      const auto frame = [&](std::size_t peer) {
        const Part part = part_of(granules, size, peer);
        const std::size_t end = std::min((part.start + part.length) * codec.granule, kCount);
        return frame_bound(spec, end - std::min(part.start * codec.granule, end));
      };
      for (std::size_t rank = 0; rank < size; ++rank) {
        CHECK((gathered.sent[rank] == Sent{size - 1, (size - 1) * frame_bound(spec, kCount)}));
        Sent sent{2 * (size - 1), (size - 1) * frame(rank)};
        for (std::size_t peer = 0; peer < size; ++peer) {
          if (peer != rank) sent.bytes += frame(peer);
        }
        CHECK(owned.sent[rank] == sent);
      }
      if (codec.combines != Combines::sum) continue;
      const Outcome around = train(ranks, kCount, spec, {.pattern = Pattern::ring}, 1);
      const std::vector<Part> parts = parts_of(kCount, size);
      const std::size_t segment = frame_segment(spec, parts, kSegmentBytes);
      for (std::size_t rank = 0; rank < size; ++rank) {
        Sent sent;
        for (std::size_t step = 0; step < 2 * (size - 1); ++step) {
          const Part part = parts[Ring{static_cast<int>(rank), ranks}.sent_chunk(step)];
          for (std::size_t k = 0; segment_of(part, segment, k).length > 0; ++k) {
            sent += {1, frame_bound(spec, segment_of(part, segment, k).length)};
          }
        }
        CHECK(around.sent[rank] == sent);
      }
    }
  }
}

TEST(elements_that_are_not_compressed_are_summed_as_they_are) {
  const Spec spec{.codec = CodecId::top_k, .amount = 0.05};
  const Outcome outcome =
      train(4, 3000, spec, {.feedback = Feedback::classic}, 1, {{100, 500}, {1000, 1500}});
  for (std::size_t i = 0; i < 3000; ++i) {
    const bool compressed = (i >= 100 && i < 600) || (i >= 1000 && i < 2500);
    if (!compressed) CHECK(std::abs(outcome.told[i] - outcome.given[i]) < 1e-5);
  }
  CHECK(std::ranges::count(outcome.told, 0.0) > 1500);
}

TEST(nodes_add_up_inside_and_compress_between) {
  for (const std::vector<int>& nodes : {std::vector{0, 0, 1, 1}, std::vector{0, 1, 1, 0, 1}}) {
    const auto ranks = static_cast<int>(nodes.size());
    for (const Feedback feedback : kFeedbacks) {
      const Outcome outcome =
          train(ranks, 3000, {.codec = CodecId::bf16}, {.feedback = feedback}, 2, {}, nodes);
      for (const std::vector<float>& result : outcome.results) {
        CHECK(same_bits(result, outcome.results[0]));
      }
      for (std::size_t i = 0; i < 3000; ++i) {
        CHECK(std::abs(outcome.told[i] - outcome.given[i]) < 0.1);
      }
    }
  }
}

TEST(the_error_that_is_measured_is_that_of_the_codec) {
  const Spec spec{.codec = CodecId::top_k, .amount = 0.05};
  for (const Feedback feedback : {Feedback::classic, Feedback::ef21}) {
    for (const double error : train(4, 3000, spec, {.feedback = feedback}, 1).error) {
      CHECK(error > 0.5 && error <= 0.95);
    }
  }
  CHECK(train(4, 3000, spec, {}, 1).error[0] < 0);
}

TEST(momentum_correction_forgets_the_velocity_of_what_was_sent) {
  const auto failures = on_ranks(2, [&](Transport& transport) {
    Compressor memory(
        {.count = 1000, .parts = {{0, 1000}}, .feedback = Feedback::classic, .momentum = 0.9});
    std::vector<float> x = gradient(transport.rank(), 0, 1000);
    compressed_all_reduce(transport, x, memory, {.spec = {.codec = CodecId::top_k, .amount = 0.1}});
    for (std::size_t i = 0; i < 1000; ++i) {
      CHECK((memory.velocity[i] == 0) == (memory.residual[i] == 0));
    }
  });
  for (const auto& failure : failures) CHECK(!failure);
}

// A network that never lets go of a request.
class Sticky final : public Transport {
 public:
  Sticky() : Transport(0, 2) {}
  void send(Request& request, int peer, Tag, std::span<const std::byte> bytes) override {
    used().push_back(bytes);
    request = {.kind = Request::Kind::send, .peer = peer, .bytes = {}};
  }
  void receive(Request& request, int peer, Tag, std::span<std::byte> bytes) override {
    used().push_back(bytes);
    request = {.kind = Request::Kind::receive, .peer = peer, .bytes = bytes};
  }
  void wait(Request& request, Deadline) override {
    fail(FailureKind::timeout, request, "no answer");
  }

  // By all of them, so that what is left behind on purpose stays known.
  static std::vector<std::span<const std::byte>>& used() {
    static auto* const all = new std::vector<std::span<const std::byte>>;
    return *all;
  }

 private:
  bool take_back(Request&) noexcept override { return false; }
};

TEST(sums_without_frames_use_no_memory_that_a_failure_frees) {
  std::vector<float> x = gradient(0, 0, 4000);
  const auto fails = [&](const auto& body) {
    Sticky network;
    bool failed = false;
    try {
      body(network);
    } catch (const Failure&) {
      failed = true;
    }
    CHECK(failed && network.unsettled());
    std::vector<std::byte> copy;
    for (const std::span<const std::byte> bytes : Sticky::used()) {
      copy.assign(bytes.begin(), bytes.end());  // the address sanitizer would object
    }
  };
  fails([&](Transport& network) {  // what travels apart
    Compressor memory({.count = x.size()});
    compressed_all_reduce(network, x, memory, {.spec = {}, .options = {.check = false}});
  });
  const Group all = Group::all(0, 2);
  for (const Spec& spec : {Spec{.codec = CodecId::random_k, .amount = 0.5},
                           Spec{.codec = CodecId::power_sgd, .amount = 2}}) {
    fails([&](Transport& network) {
      Compressor memory({.count = 4000, .parts = {{0, 4000}}, .matrices = {{0, 40, 100}}});
      const Wire wire{network, all, Channel::frames, 1, Clock::now(), kSegmentBytes};
      FrameExchange frames(wire, spec, memory, 1, x, x, false);
      spec.codec == CodecId::random_k ? frames.same_elements() : frames.factors();
    });
  }
}

TEST(a_damaged_frame_names_its_sender) {
  const auto failures = on_ranks(2, [&](Transport& transport) {
    std::vector<float> x(100, 1.0f);
    if (transport.rank() == 0) {
      Compressor memory({.count = 100, .parts = {{0, 100}}});
      compressed_all_reduce(
          transport, x, memory,
          {.spec = {.codec = CodecId::fp16}, .options = {.label = "bucket 3", .check = false}});
      return;
    }
    const Spec spec{.codec = CodecId::fp16};
    std::vector<std::byte> frame(frame_bound(spec, 100));
    encode_frame(spec, x, {}, frame);
    frame[50] ^= std::byte{1};
    const Deadline deadline = Clock::now() + std::chrono::seconds(20);
    const std::uint32_t number = transport.begin("a test", "", {}, Clock::now(), deadline, {});
    Request request;
    transport.send(request, 0, Tag(Channel::frames, number, 0), frame);
    transport.wait(request, deadline);
    transport.end(std::nullopt);
  });
  CHECK(failures[0] && failures[0]->kind() == FailureKind::corrupt);
  const std::string story = failures[0]->what();
  CHECK(test::contains(story, "compressed all-reduce #1 of bucket 3 on rank 0"));
  CHECK(test::contains(story, "from rank 1: a damaged frame: the checksum does not hold"));
}

TEST(a_pattern_that_a_codec_cannot_take_is_told_on_all_ranks) {
  const auto told = [](const Spec& spec, Feedback feedback, Pattern pattern) {
    return on_ranks(3, [&](Transport& transport) {
      std::vector<float> x(3000, 1.0f);
      Compressor memory(
          {.count = 3000, .parts = {{0, 3000}}, .feedback = feedback, .pattern = pattern});
      compressed_all_reduce(transport, x, memory, {.spec = spec});
      for (const float value : x) CHECK(value == 3.0f);
    });
  };
  for (const Spec& spec : specs()) {
    for (const Feedback feedback : kFeedbacks) {
      for (const Pattern pattern : {Pattern::ring, Pattern::balanced}) {
        if (can_travel(spec, feedback, pattern)) continue;
        for (const auto& failure : told(spec, feedback, pattern)) {
          if (spec.codec == CodecId::none) {  // of steps without compression
            CHECK(!failure);
            continue;
          }
          CHECK(failure && failure->kind() == FailureKind::config && failure->on_all_ranks());
          CHECK(test::contains(failure->what(), "cannot travel in the pattern"));
        }
      }
    }
  }
}

TEST(ranks_that_mean_different_codecs_are_told) {
  const auto failures = on_ranks(3, [&](Transport& transport) {
    std::vector<float> x(100, 1.0f);
    Compressor memory({.count = 100, .parts = {{0, 100}}});
    const CodecId codec = transport.rank() == 1 ? CodecId::fp16 : CodecId::bf16;
    compressed_all_reduce(transport, x, memory, {.spec = {.codec = codec}});
  });
  for (const auto& failure : failures) {
    CHECK(failure && failure->kind() == FailureKind::config && failure->on_all_ranks());
    CHECK(test::contains(failure->what(), "the ranks disagree: rank 0"));
  }
}

}  // namespace
