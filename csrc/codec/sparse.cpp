#include "codec/sparse.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "base/failure.hpp"
#include "codec/random.hpp"

namespace mls {
namespace {

constexpr std::size_t kBlock = 512;  // indices that are read at a time

// The row that values may be encoded with; none where they may not.
const Codec* values_row(CodecId values) {
  const auto index = static_cast<std::size_t>(values);
  const Codec* row = index < kCodecs ? codecs()[index] : nullptr;
  return row != nullptr && !row->sparse && row->fixed_size && row->granule > 0 ? row : nullptr;
}

Spec values_spec(CodecId values, bool stochastic) {
  return {.codec = values, .stochastic = stochastic};
}

std::size_t values_size(CodecId values, std::size_t k) {
  return codec_of(values).bound(values_spec(values, false), k);
}

bool accepts_values(const Spec& spec) {
  const Codec* row = values_row(spec.values);
  return row != nullptr && row->accepts(values_spec(spec.values, spec.stochastic));
}

bool accepts_ratio(const Spec& spec) {
  return spec.amount > 0 && spec.amount <= 1 && accepts_values(spec);
}

void must_be_indexable(std::size_t count) {
  if (count > kMostElements) {
    throw Failure(FailureKind::config,
                  "a sparse frame holds at most 4294967295 elements, not " + std::to_string(count));
  }
}

std::uint32_t read_count(const Payload& payload) {
  std::uint32_t k;
  std::memcpy(&k, payload.bytes.data(), sizeof k);
  return k;
}

// The values of a payload that start at this byte, as a payload of their own.
Payload values_at(const Payload& payload, std::size_t start) {
  return {payload.bytes.subspan(start), read_count(payload)};
}

bool check_values(const Payload& payload, std::size_t start) {
  const Payload values = values_at(payload, start);
  return values.bytes.size() == values_size(payload.values, values.count) &&
         codec_of(payload.values).check(values);
}

// The values of a payload as float32; decoded only where they are not.
class Values {
 public:
  Values(const Payload& payload, std::size_t start) : bytes_(payload.bytes.data() + start) {
    if (payload.values == CodecId::none) return;
    const Payload values = values_at(payload, start);
    decoded_ = std::make_unique_for_overwrite<float[]>(values.count);
    codec_of(payload.values).decode(values, decoded_.get());
    bytes_ = std::as_bytes(std::span(decoded_.get(), values.count)).data();
  }

  float operator[](std::size_t i) const {
    float value;
    std::memcpy(&value, bytes_ + i * sizeof value, sizeof value);
    return value;
  }

 private:
  const std::byte* bytes_;
  std::unique_ptr<float[]> decoded_;
};

// What reads the indices of a payload of each kind: read(indices, most), as an IndexReader.
IndexReader sparse_reader(const Payload& payload) {
  return {payload.bytes.data() + sizeof(std::uint32_t), read_count(payload), payload.count};
}

std::size_t sparse_values(const Payload& payload) {
  return sizeof(std::uint32_t) + index_code_size(read_count(payload), payload.count);
}

// Index i of the draw.
std::uint32_t drawn(std::uint64_t key, std::size_t i, std::size_t k, std::size_t n) {
  const std::uint64_t start = i * n / k;
  const std::uint64_t length = (i + 1) * n / k - start;
  return static_cast<std::uint32_t>(start + (random_bits(key, i) * length >> 32));
}

class DrawnReader {
 public:
  explicit DrawnReader(const Payload& payload) : k_(read_count(payload)), n_(payload.count) {
    std::memcpy(&key_, payload.bytes.data() + sizeof(std::uint32_t), sizeof key_);
  }

  std::size_t read(std::uint32_t* indices, std::size_t most) {
    const std::size_t count = std::min(most, k_ - done_);
    for (std::size_t i = 0; i < count; ++i) indices[i] = drawn(key_, done_ + i, k_, n_);
    done_ += count;
    return count;
  }

 private:
  std::uint64_t key_;
  std::size_t k_;
  std::size_t n_;
  std::size_t done_ = 0;
};

// Zeros are written just before the values that lie among them, while these are in the cache.
template <class Reader>
void scatter(Reader reader, const Values& values, std::size_t count, float* into) {
  std::array<std::uint32_t, kBlock> indices;
  std::size_t first = 0;  // number of the block's first value
  std::size_t zeroed = 0;
  while (const std::size_t length = reader.read(indices.data(), kBlock)) {
    const std::size_t end = std::size_t{indices[length - 1]} + 1;
    std::fill(into + zeroed, into + end, 0.0f);
    for (std::size_t i = 0; i < length; ++i) into[indices[i]] = values[first + i];
    first += length;
    zeroed = end;
  }
  std::fill(into + zeroed, into + count, 0.0f);
}

template <class Reader>
void scatter_add(Reader reader, const Values& values, float factor, float* into) {
  std::array<std::uint32_t, kBlock> indices;
  std::size_t first = 0;
  while (const std::size_t length = reader.read(indices.data(), kBlock)) {
    for (std::size_t i = 0; i < length; ++i) into[indices[i]] += factor * values[first + i];
    first += length;
  }
}

std::size_t encode_top(const Spec& spec, std::span<const float> x, Draw draw, std::byte* payload) {
  must_be_indexable(x.size());
  const std::size_t most = k_of(spec, x.size());
  const auto indices = std::make_unique_for_overwrite<std::uint32_t[]>(most);
  const auto values = std::make_unique_for_overwrite<float[]>(most);
  const std::size_t k = select_top(x, most, spec.sampled, draw, indices.get(), values.get());
  return write_sparse({indices.get(), k}, {values.get(), k}, x.size(), spec.values, draw, payload,
                      spec.stochastic);
}

std::size_t encode_above(const Spec& spec, std::span<const float> x, Draw draw,
                         std::byte* payload) {
  must_be_indexable(x.size());
  const Selection above = select_above(x, static_cast<float>(spec.amount));
  return write_sparse({above.indices.get(), above.count}, {above.values.get(), above.count},
                      x.size(), spec.values, draw, payload, spec.stochastic);
}

std::size_t encode_random(const Spec& spec, std::span<const float> x, Draw draw,
                          std::byte* payload) {
  must_be_indexable(x.size());
  const std::size_t n = x.size();
  const std::size_t k = k_of(spec, n);
  const auto written = static_cast<std::uint32_t>(k);
  const std::uint64_t key = random_k_key(draw);
  std::memcpy(payload, &written, sizeof written);
  std::memcpy(payload + sizeof written, &key, sizeof key);
  const auto values = std::make_unique_for_overwrite<float[]>(k);
  for (std::size_t i = 0; i < k; ++i) {
    const auto length = static_cast<float>((i + 1) * n / k - i * n / k);
    values[i] = x[drawn(key, i, k, n)] * (spec.unbiased ? length : 1.0f);
  }
  return kRandomKHeader + codec_of(spec.values)
                              .encode(values_spec(spec.values, spec.stochastic), {values.get(), k},
                                      draw, payload + kRandomKHeader);
}

bool check_sparse(const Payload& payload) {
  if (values_row(payload.values) == nullptr) return false;
  if (payload.bytes.size() < sizeof(std::uint32_t) || payload.count > kMostElements) return false;
  const std::size_t k = read_count(payload);
  if (k > payload.count || payload.bytes.size() != sparse_size(k, payload.count, payload.values)) {
    return false;
  }
  return check_indices(
             payload.bytes.subspan(sizeof(std::uint32_t), index_code_size(k, payload.count)), k,
             payload.count) &&
         check_values(payload, sparse_values(payload));
}

bool check_random(const Payload& payload) {
  return values_row(payload.values) != nullptr && payload.bytes.size() >= kRandomKHeader &&
         payload.count <= kMostElements && read_count(payload) <= payload.count &&
         check_values(payload, kRandomKHeader);
}

constexpr Codec row(CodecId id, std::string_view name) {
  return {.id = id,
          .name = name,
          .combines = Combines::gather,
          .sparse = true,
          .granule = 0,
          .accepts = [](const Spec&) { return false; },
          .bound = [](const Spec&, std::size_t) { return std::size_t{0}; },
          .fixed_size = false,
          .encode = nullptr,
          .check = check_sparse,
          .decode =
              [](const Payload& payload, float* into) {
                scatter(sparse_reader(payload), Values(payload, sparse_values(payload)),
                        payload.count, into);
              },
          .add =
              [](const Payload& payload, float factor, float* into) {
                scatter_add(sparse_reader(payload), Values(payload, sparse_values(payload)), factor,
                            into);
              }};
}

constexpr Codec top_row() {
  Codec top = row(CodecId::top_k, "top_k");
  top.fixed_size = true;
  top.accepts = [](const Spec& spec) { return accepts_ratio(spec) && !spec.unbiased; };
  // the code of fewer indices than the sample was to find may be a byte longer
  top.bound = [](const Spec& spec, std::size_t count) {
    return sparse_size(k_of(spec, count), count, spec.values) + (spec.sampled ? 1 : 0);
  };
  top.encode = encode_top;
  return top;
}

constexpr Codec random_row() {
  Codec random = row(CodecId::random_k, "random_k");
  random.combines = Combines::sum;
  random.fixed_size = true;
  random.accepts = [](const Spec& spec) { return accepts_ratio(spec) && !spec.sampled; };
  random.bound = [](const Spec& spec, std::size_t count) {
    return kRandomKHeader + values_size(spec.values, k_of(spec, count));
  };
  random.encode = encode_random;
  random.check = check_random;
  random.decode = [](const Payload& payload, float* into) {
    scatter(DrawnReader(payload), Values(payload, kRandomKHeader), payload.count, into);
  };
  random.add = [](const Payload& payload, float factor, float* into) {
    scatter_add(DrawnReader(payload), Values(payload, kRandomKHeader), factor, into);
  };
  return random;
}

constexpr Codec threshold_row() {
  Codec threshold = row(CodecId::threshold, "threshold");
  threshold.accepts = [](const Spec& spec) {
    return spec.amount >= 0 && std::isfinite(static_cast<float>(spec.amount)) && !spec.sampled &&
           !spec.unbiased && accepts_values(spec);
  };
  threshold.bound = [](const Spec& spec, std::size_t count) {
    return sparse_size(count, count, spec.values) + 1;
  };
  threshold.encode = encode_above;
  return threshold;
}

}  // namespace

constinit const std::array<Codec, kSparseCodecs> kSparseRows{top_row(), random_row(),
                                                             threshold_row()};

std::size_t k_of(const Spec& spec, std::size_t n) {
  const double wanted = std::round(spec.amount * static_cast<double>(n));
  return std::clamp(static_cast<std::size_t>(wanted), std::min<std::size_t>(n, 1), n);
}

std::size_t sparse_size(std::size_t k, std::size_t n, CodecId values) {
  return sizeof(std::uint32_t) + index_code_size(k, n) + values_size(values, k);
}

std::size_t write_sparse(std::span<const std::uint32_t> indices, std::span<const float> values,
                         std::size_t n, CodecId values_codec, Draw draw, std::byte* payload,
                         bool stochastic) {
  const auto k = static_cast<std::uint32_t>(indices.size());
  std::byte* at = payload;
  std::memcpy(at, &k, sizeof k);
  at += sizeof k;
  at += encode_indices(indices, n, at);
  at += codec_of(values_codec).encode(values_spec(values_codec, stochastic), values, draw, at);
  return static_cast<std::size_t>(at - payload);
}

std::size_t sparse_count(const Payload& payload) { return read_count(payload); }

std::size_t read_sparse(const Payload& payload, std::uint32_t* indices, float* values) {
  const std::size_t k = sparse_reader(payload).read(indices, payload.count);
  const std::size_t start = sparse_values(payload);
  codec_of(payload.values).decode(values_at(payload, start), values);
  return k;
}

std::uint64_t random_k_key(Draw draw) { return key_of(draw.key, draw.first); }

void draw_indices(std::uint64_t key, std::size_t k, std::size_t n, std::uint32_t* indices) {
  for (std::size_t i = 0; i < k; ++i) indices[i] = drawn(key, i, k, n);
}

}  // namespace mls
