// What one array keeps between compressed all-reduces (error feedback), and how it is compressed.
//
//   none     sent = C(x)
//   classic  r += x; sent = C(r); r -= sent            Seide et al. 2014; Karimireddy et al. 2019
//   ef21     sent = C(x - h); h += sent; the result is the sum of all h
//                                                      Richtarik, Sokolov, Fatkhullin 2021
//
//   with a momentum m
//   classic  u = m u + x takes the place of x, and is 0 again where a sparse codec has sent
//                                                      DGC: Lin et al. 2018, section 3.2
//   ef21     v = m v + (1 - m) x takes the place of x  Fatkhullin, Tyurin, Richtarik 2023
//
// Elements that travel as they are have the same momentum, of their sum, without masking.
//
// The owner of a part, which adds up what came and encodes the sum again, does the same with that
// sum: `owned` is its r, or the sum of all h, of which `estimate` is what all ranks were told. So
// all state is built from own gradients and from what was sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "codec/codec.hpp"
#include "codec/low_rank.hpp"
#include "comm/cost.hpp"
#include "comm/topology.hpp"

namespace mls {

enum class Feedback : std::uint8_t { none, classic, ef21 };
enum class Pattern : std::uint8_t {
  automatic,
  ring,
  owners,
  gather,
  balanced,
  same_elements,
  factors
};

// How the owners of parts have cut an array.
struct Division {
  Pattern pattern = Pattern::automatic;  // owners or balanced; others have none
  std::size_t granule = 1;

  bool operator==(const Division&) const = default;
};

struct Compression {
  std::size_t count = 0;         // elements of the array
  std::vector<Part> parts = {};  // what is compressed, ascending; the others travel as they are
  std::vector<Matrix> matrices =
      {};  // of power_sgd, one after the other in the compressed elements
  Feedback feedback = Feedback::none;
  double momentum = 0;   // 0: none
  double clip_norm = 0;  // largest norm of a rank's share of the array; 0: no limit
  Pattern pattern = Pattern::automatic;
  std::uint64_t seed = 0;  // of this array; the same on all ranks
};

class Compressor {
 public:
  explicit Compressor(Compression how);

  const Compression& how() const { return how_; }
  std::size_t compressed() const { return compressed_; }  // elements

  // Whether all elements are compressed.
  bool whole() const { return compressed_ == how_.count; }

  // The compressed elements one after the other, or the others; and back.
  void gather(std::span<const float> array, bool compressed, std::span<float> into) const;
  void scatter(std::span<const float> from, bool compressed, std::span<float> array) const;

  // Takes a gradient of the compressed elements in, and returns what is to be sent instead: memory
  // of this object, or x itself without feedback.
  std::span<float> load(std::span<float> x, std::size_t ranks);

  // What momentum makes of the sum of elements that are not compressed: all of the array, or the
  // others.
  void carry_on(std::span<float> sum);

  // Which part `owned` is of.
  Division division() const;
  void divide(Division how);

  // The state by name; a vector without elements has not been used yet.
  std::vector<std::pair<const char*, std::vector<float>*>> state();

  std::vector<float> residual;  // classic: r. ef21: h
  std::vector<float> velocity;  // u or v
  std::vector<float> carried;   // u or v of the elements that are not compressed; all ranks' alike
  std::vector<float> owned;     // of this rank's part
  std::vector<float> cut;       // what part that is: a Division
  std::vector<float> estimate;  // ef21: the same on all ranks
  std::vector<float> basis;     // power_sgd: Q; the same on all ranks

  // Of the last exchange.
  Sent sent;
  double error = -1;  // |y - sent|^2 / |y|^2; negative where it was not measured

 private:
  const Compression how_;
  std::size_t compressed_ = 0;
  std::vector<float> difference_;
};

}  // namespace mls
