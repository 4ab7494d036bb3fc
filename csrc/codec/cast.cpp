#include "codec/cast.hpp"

#include "codec/dispatch.hpp"

namespace mls {
namespace {

const CastKernels& kernels() { return MLS_FASTEST(cast_kernels); }

constexpr std::array<std::size_t, kCasts> kBytes{4, 2, 2, 1, 1};

constexpr std::size_t index(CodecId id) { return static_cast<std::size_t>(id); }

bool plain(const Spec& spec) {
  return spec.amount == 0 && spec.values == CodecId::none && !spec.stochastic && !spec.sampled &&
         !spec.unbiased;
}

template <CodecId id>
constexpr Codec row(std::string_view name) {
  constexpr std::size_t kWidth = kBytes[index(id)];
  return {.id = id,
          .name = name,
          .combines = Combines::sum,
          .sparse = false,
          .granule = 1,
          .accepts = plain,
          .bound = [](const Spec&, std::size_t count) { return count * kWidth; },
          .fixed_size = true,
          .encode =
              [](const Spec&, std::span<const float> x, Draw, std::byte* payload) {
                kernels().encode[index(id)](x.data(), payload, x.size());
                return x.size() * kWidth;
              },
          .check =
              [](const Payload& payload) {
                return payload.bytes.size() / kWidth == payload.count &&
                       payload.bytes.size() % kWidth == 0 && payload.values == CodecId::none;
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

constinit const std::array<Codec, kCasts> kCastCodecs{
    row<CodecId::none>("none"), row<CodecId::fp16>("fp16"), row<CodecId::bf16>("bf16"),
    row<CodecId::fp8_e4m3>("fp8_e4m3"), row<CodecId::fp8_e5m2>("fp8_e5m2")};

}  // namespace mls
