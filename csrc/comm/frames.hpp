// How frames travel: the exchange patterns of compressed all-reduce. docs/algorithms.md has them.
//
// All ranks decode the same frames in the same order, and so have the same bits afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/codec.hpp"
#include "codec/frame.hpp"
#include "comm/compressor.hpp"
#include "comm/topology.hpp"
#include "comm/transport.hpp"
#include "comm/wire.hpp"

namespace mls {

// Elements of a segment of a ring of frames, so that a frame is as long as other messages.
std::size_t frame_segment(const Spec& spec, std::span<const Part> parts, std::size_t segment_bytes);

// One compressed all-reduce among the ranks of a group.
class FrameExchange {
 public:
  // y: what this rank sends, from Compressor::load. out: the result; may be y's memory where there
  // is no feedback. key: of this array and step, the same on all ranks.
  // measure: leave y less what was sent of it, also where the feedback does not need that.
  FrameExchange(const Wire& wire, const Spec& spec, Compressor& memory, std::uint64_t key,
                std::span<float> y, std::span<float> out, bool measure);

  // Before a pattern: what this rank owns becomes that of the pattern's division. What it owned in
  // another one is its own to send again.
  void divide(Division how);

  // Every rank sends the frame of its whole array to all others, which decode and add.
  void gather();

  // Every rank owns a part: it adds up what the others send of it, encodes the sum again, and
  // sends that to all. Both ways are compressed.
  void owners();

  // A ring in which partial sums are encoded again at every step; for codecs that combine by
  // `sum`. Each rank keeps the errors of its own roundings as a residual.
  void ring();

  // For random_k with a key that all share: the values of all ranks belong to the same elements,
  // and are added up as they are.
  void same_elements();

  // For power_sgd: all ranks add up their P, make it orthonormal, and add up their Q.
  void factors();

  // As owners, for sparse codecs of k values: ranks own every P-th block of the array, so that all
  // parts have their share of what is large, send at most 5k/4P values to one owner, and get
  // at most 7k/4P from each. Fewer than 6k numbers, indices and values, leave a rank, and as many
  // arrive, for any number of ranks (k >= P).
  // Li, Hoefler 2022, "Near-optimal sparse allreduce for distributed deep learning", has the bound.
  void balanced();

 private:
  std::size_t own() const { return static_cast<std::size_t>(wire_.rank()); }
  std::size_t size() const { return static_cast<std::size_t>(wire_.size()); }

  // Encodes a part of y, and lets the feedback know what was sent.
  std::size_t encode(Part part, std::span<std::byte> frame);
  void settle(const Payload& payload, Part part, Draw draw);
  void mask_velocity(const Payload& payload, Part part, Draw draw);

  // Encodes the sum that this rank owns.
  std::size_t encode_owned(std::span<float> sum, std::span<const float> told,
                           std::span<std::byte> frame);

  // The frame of `peer`, which must hold this many elements.
  Frame open(std::span<const std::byte> bytes, std::size_t count, std::size_t peer) const;

  // Puts what a frame holds into the result, or adds it where something is there.
  void deliver(const Frame& frame, Part part, bool first);

  // Copies the estimate out, where there is one.
  void finish();

  void send(Request& request, std::size_t peer, std::uint64_t step, std::span<std::byte> bytes);
  void receive(Request& request, std::size_t peer, std::uint64_t step, std::span<std::byte> bytes);

  const Wire& wire_;
  const Spec& spec_;
  const Codec& codec_;
  Compressor& memory_;
  const std::uint64_t key_;
  const std::span<float> y_;
  const std::span<float> out_;
  const Feedback feedback_;
  const bool measure_;
};

}  // namespace mls
