// Which elements of an array are largest by magnitude.
//
// Magnitudes are compared as the integers that their bits are: NaN is above infinity, and equal
// magnitudes are taken from the front. Every instruction set selects the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "codec/codec.hpp"

namespace mls {

// Selects the k <= x.size() elements of largest magnitude; writes their indices, ascending, and
// where `values` is given what they hold. Both have room for k. Returns how many were selected:
//   exact    k
//   sampled  from k / 2 to k, and no element that is left out is larger than one of them. The
//            threshold is that of a random sample of 0.1 % of the elements, 4096 at least; where
//            more than k pass, the largest k of them are kept, and where fewer than k / 2 do, the
//            selection is made exactly (Lin et al. 2018, Deep Gradient Compression, section 3).
//            The draw decides which elements the sample has.
// One pass over x, unless its largest elements escape the sample.
std::size_t select_top(std::span<const float> x, std::size_t k, bool sampled, Draw draw,
                       std::uint32_t* indices, float* values = nullptr);

// The sample that a threshold for the k largest of n elements comes from: that of the rank-th
// largest of its `size` elements, or none, where rank is 0: all elements pass. Element j is element
// random_bits(key, j) n / 2^32 of the array.
struct Sample {
  std::size_t size;
  std::size_t rank;
  std::uint64_t key;
};
Sample sample_for(std::size_t n, std::size_t k, bool sampled, Draw draw);

// Elements in the order of their indices; room grows as they come.
struct Selection {
  std::unique_ptr<std::uint32_t[]> indices;
  std::unique_ptr<float[]> values;
  std::size_t count = 0;
  std::size_t room = 0;

  void reserve(std::size_t elements);
};

// The elements whose magnitude is above the bound.
Selection select_above(std::span<const float> x, float bound);

// Elements that kernels may write behind those that they have selected.
inline constexpr std::size_t kSelectSlack = 16;

struct SelectKernels {
  // Selects from x the elements whose bits without the sign are at least `least`, the first of
  // which has the index `first`; returns how many.
  std::size_t (*select)(const float* x, std::size_t count, std::uint32_t least, std::uint32_t first,
                        std::uint32_t* indices, float* values);
};

namespace baseline {
extern const SelectKernels select_kernels;
}
namespace avx2 {
extern const SelectKernels select_kernels;
}
namespace avx512 {
extern const SelectKernels select_kernels;
}

}  // namespace mls
