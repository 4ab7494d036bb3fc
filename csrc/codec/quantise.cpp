#include "codec/quantise.hpp"

#include "codec/dispatch.hpp"

namespace mls {
namespace {

const QuantiseKernels& kernels() { return MLS_FASTEST(quantise_kernels); }

constexpr std::array<std::size_t, kQuantisers> kBits{8, 4, 2, 1, 2, 8};

constexpr std::size_t index(CodecId id) {
  return static_cast<std::size_t>(id) - static_cast<std::size_t>(CodecId::int8);
}

// Whether it draws: by choice, or by what it is.
enum class Rounding { nearest, either, stochastic };

template <Rounding rounding>
bool accepts(const Spec& spec) {
  return spec.amount == 0 && spec.values == CodecId::none && !spec.sampled && !spec.unbiased &&
         (!spec.stochastic || rounding == Rounding::either);
}

constexpr std::size_t size_of(std::size_t count, std::size_t bits) {
  const std::size_t rest = count % kScaleBlock;
  return count / kScaleBlock * (sizeof(float) + kScaleBlock * bits / 8) +
         (rest > 0 ? sizeof(float) + (rest * bits + 7) / 8 : 0);
}

template <CodecId id, Rounding rounding>
constexpr Codec row(std::string_view name) {
  constexpr std::size_t kWidth = kBits[index(id)];
  return {.id = id,
          .name = name,
          .combines = Combines::gather,
          .sparse = false,
          .granule = kScaleBlock,
          .accepts = accepts<rounding>,
          .bound = [](const Spec&, std::size_t count) { return size_of(count, kWidth); },
          .fixed_size = true,
          .encode =
              [](const Spec& spec, std::span<const float> x, Draw draw, std::byte* payload) {
                const bool draws = spec.stochastic || rounding == Rounding::stochastic;
                kernels().encode[index(id)](x.data(), draws ? &draw : nullptr, payload, x.size());
                return size_of(x.size(), kWidth);
              },
          // any code and any scale has a value: only the length matters
          .check =
              [](const Payload& payload) {
                return payload.count / 8 <= payload.bytes.size() &&  // size_of does not overflow
                       payload.bytes.size() == size_of(payload.count, kWidth) &&
                       payload.values == CodecId::none;
              },
          .decode =
              [](const Payload& payload, float* into) {
                kernels().decode[index(id)](payload.bytes.data(), into, payload.count);
              },
          .add =
              [](const Payload& payload, float factor, float* into) {
                kernels().add[index(id)](payload.bytes.data(), factor, into, payload.count);
              }};
}

}  // namespace

constinit const std::array<Codec, kQuantisers> kQuantiseCodecs{
    row<CodecId::int8, Rounding::either>("int8"),
    row<CodecId::int4, Rounding::either>("int4"),
    row<CodecId::int2, Rounding::either>("int2"),
    row<CodecId::sign, Rounding::nearest>("sign"),
    row<CodecId::ternary, Rounding::stochastic>("ternary"),
    row<CodecId::natural, Rounding::stochastic>("natural")};

}  // namespace mls
