// Codecs that send some elements only: top_k, random_k, threshold. What is not sent decodes to
// zero.
//
//   top_k, threshold  uint32 k, the code of k indices (index_code.hpp), the payload of k values
//   random_k          uint32 k, uint64 key, the payload of k values; the indices are a function of
//                     the key, k and the count, so that payloads of one draw add up value by value
//
// The values are the payload of the codec that Spec::values names: float32 as it is, or any row
// that is neither sparse nor of varying size. NaN is larger than all else and so always sent by
// top_k and threshold, as long as k allows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/codec.hpp"
#include "codec/index_code.hpp"
#include "codec/select.hpp"

namespace mls {

// Elements that top_k and random_k send of n: the amount as a share, one at least.
std::size_t k_of(const Spec& spec, std::size_t n);

// top_k and threshold ---------------------------------------------------------------------------

// Bytes of the payload of k of n elements, exactly.
std::size_t sparse_size(std::size_t k, std::size_t n, CodecId values);

// Writes the payload of these elements of an array of n and returns its bytes. The indices ascend.
std::size_t write_sparse(std::span<const std::uint32_t> indices, std::span<const float> values,
                         std::size_t n, CodecId values_codec, Draw draw, std::byte* payload,
                         bool stochastic = false);

// Elements in a checked payload.
std::size_t sparse_count(const Payload& payload);

// The elements of a checked payload; both arrays have room for all. Returns how many.
std::size_t read_sparse(const Payload& payload, std::uint32_t* indices, float* values);

// random_k --------------------------------------------------------------------------------------

// Before the values. The rest of two payloads of one spec and draw may be added up.
inline constexpr std::size_t kRandomKHeader = 12;  // bytes

// The key that a payload of this draw has.
std::uint64_t random_k_key(Draw draw);

// Draws k of n indices, one from each stratum [i n / k, (i + 1) n / k).
void draw_indices(std::uint64_t key, std::size_t k, std::size_t n, std::uint32_t* indices);

inline constexpr std::size_t kSparseCodecs = 3;
extern const std::array<Codec, kSparseCodecs> kSparseRows;

}  // namespace mls
