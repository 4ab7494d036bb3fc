#include "store/rows.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "base/failure.hpp"

namespace mls {
namespace {

constexpr std::size_t kLine = 64;          // bytes
constexpr std::size_t kBlockBytes = 1024;  // about what is copied for a row that is written
constexpr std::size_t kAhead = 16;         // rows that are fetched before they are needed
constexpr std::size_t kMostLines = 8;      // of a row; the processor sees where it goes on

// A power of two of rows, of a cache line or more, so that versions are at most 1/16 of the memory.
unsigned granule_bits(std::size_t row_bytes) {
  return static_cast<unsigned>(std::bit_width((kLine + row_bytes - 1) / row_bytes - 1));
}

unsigned block_bits(std::size_t row_bytes) {
  const std::size_t rows = std::max<std::size_t>(kBlockBytes / row_bytes, 1);
  return std::max(static_cast<unsigned>(std::bit_width(rows)) - 1, granule_bits(row_bytes));
}

std::size_t stride_of(std::uint32_t width, const Rule& rule) {
  if (const auto wrong = problem(rule)) throw Failure(FailureKind::config, *wrong);
  if (width == 0) throw Failure(FailureKind::config, "a row has at least one column");
  return width + rule_row(rule.id).state_of(width);
}

std::uint64_t checked(std::uint64_t slots, std::size_t stride) {
  if (slots > std::uint64_t{1} << 32) {
    throw Failure(FailureKind::config, "a server holds at most 4294967296 rows of a table, not " +
                                           std::to_string(slots) + "; use more servers");
  }
  if (slots > std::numeric_limits<std::size_t>::max() / sizeof(float) / stride) {
    throw Failure(FailureKind::config, "a table does not fit any memory");
  }
  return slots;
}

template <int kWrite>
void prefetch(const float* row, std::size_t bytes) {
  const auto* const first = reinterpret_cast<const char*>(row);
  const std::size_t lines = std::min((bytes - 1) / kLine, kMostLines);
  for (std::size_t i = 0; i < lines; ++i) __builtin_prefetch(first + i * kLine, kWrite);
  __builtin_prefetch(first + std::min(bytes - 1, kMostLines * kLine), kWrite);
}

}  // namespace

Rows::Rows(std::uint64_t slots, std::uint32_t width, const Rule& rule)
    : Table(slots, granule_bits(stride_of(width, rule) * sizeof(float)),
            block_bits(stride_of(width, rule) * sizeof(float))),
      width_(width),
      rule_(rule),
      stride_(stride_of(width, rule)),
      memory_(checked(slots, stride_) * stride_ * sizeof(float)) {}

float* Rows::at(std::uint64_t slot) { return memory_.as<float>() + slot * stride_; }
const float* Rows::at(std::uint64_t slot) const { return memory_.as<float>() + slot * stride_; }

bool Rows::fits(std::span<const std::uint32_t> some) const {
  std::uint32_t highest = 0;
  for (const std::uint32_t slot : some) highest = std::max(highest, slot);
  return some.empty() || highest < slots();
}

std::span<const float> Rows::row(std::uint64_t slot) const { return {at(slot), width_}; }

void Rows::pull(std::span<const std::uint32_t> some, std::span<float> into) const {
  const std::size_t bytes = width_ * sizeof(float);
  float* next = into.data();
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (i + kAhead < some.size()) prefetch<0>(at(some[i + kAhead]), bytes);
    std::memcpy(next, at(some[i]), bytes);
    next += width_;
  }
}

void Rows::write(std::span<const std::uint32_t> some, std::span<const float> values) {
  for (std::size_t i = 0; i < some.size(); ++i) {
    about_to_write(some[i]);
    std::memcpy(at(some[i]), values.data() + i * width_, width_ * sizeof(float));
  }
}

void Rows::update(std::span<const std::uint32_t> some, std::span<const float> gradients, float lr,
                  std::uint64_t step) {
  const Step how = step_of(rule_, lr, step);
  const auto apply = rule_row(rule_.id).apply;
  const std::size_t width = width_, bytes = stride_ * sizeof(float);
  const float* gradient = gradients.data();
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (i + kAhead < some.size()) {
      prefetch<1>(at(some[i + kAhead]), bytes);
      prefetch_version(some[i + kAhead]);
    }
    about_to_write(some[i]);
    float* const row = at(some[i]);
    apply(how, row, row + width, width, gradient, width);
    gradient += width;
  }
}

void Rows::initialise(const Initial& initial,
                      const std::function<std::uint64_t(std::uint64_t)>& row_of) {
  if (initial.kind == Initial::Kind::zeros) return;  // a new table has no other values
  write_blocks({0, slots()}, [&](Range part) {
    for (std::uint64_t slot = part.start; slot < part.end(); ++slot) {
      initial_row(initial, row_of(slot), {at(slot), width_});
    }
  });
}

std::size_t Rows::floats(Contents contents) const {
  return contents == Contents::all ? stride_ : width_;
}

void Rows::save(Range range, Contents contents, float* into) const {
  if (contents == Contents::all) {
    std::copy_n(at(range.start), range.length * stride_, into);
    return;
  }
  for (std::uint64_t slot = range.start; slot < range.end(); ++slot) {
    into = std::copy_n(at(slot), width_, into);
  }
}

void Rows::load(Range range, const float* from) {
  write_blocks(range, [&](Range part) {
    std::copy_n(from + (part.start - range.start) * stride_, part.length * stride_, at(part.start));
  });
}

std::uint64_t Rows::bytes() const { return memory_.bytes() + version_bytes(); }

}  // namespace mls
