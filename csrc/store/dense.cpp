#include "store/dense.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/failure.hpp"

namespace mls {
namespace {

constexpr unsigned kBlockBits = 14;                             // 64 KiB of parameters
static_assert((std::size_t{1} << kBlockBits) >= kPieceFloats);  // one block in a piece

std::size_t stride_of(std::size_t count) { return (count + 15) / 16 * 16; }

void must_ascend(const std::vector<Range>& decayed, std::size_t count) {
  std::uint64_t end = 0;
  for (const Range range : decayed) {
    if (range.start < end || range.length > count || range.start > count - range.length) {
      throw Failure(FailureKind::config,
                    "the ranges with weight decay must ascend within the array");
    }
    end = range.end();
  }
}

Rule dense_rule(const Rule& rule) {
  if (const auto wrong = problem(rule)) throw Failure(FailureKind::config, *wrong);
  if (rule_row(rule.id).rows_only) {
    throw Failure(FailureKind::config, std::string(rule_row(rule.id).name) +
                                           " is for tables of rows, not for a dense array");
  }
  return rule;
}

}  // namespace

Dense::Dense(std::size_t count, const Rule& rule, std::vector<Range> decayed)
    : Table(count, kBlockBits, kBlockBits),
      rule_(dense_rule(rule)),
      decayed_(std::move(decayed)),
      stride_(stride_of(count)),
      memory_((1 + rule_row(rule.id).per_element) * stride_ * sizeof(float)) {
  must_ascend(decayed_, count);
}

std::span<const float> Dense::values() const { return {array(0), count()}; }

std::span<const float> Dense::state(std::size_t k) const { return {array(1 + k), count()}; }

void Dense::write(std::size_t start, std::span<const float> values) {
  write_blocks({start, values.size()}, [&](Range part) {
    std::memcpy(array(0) + part.start, values.data() + (part.start - start),
                part.length * sizeof(float));
  });
}

void Dense::update(std::size_t start, std::span<const float> gradient, float lr,
                   std::uint64_t step) {
  const Step decays = step_of(rule_, lr, step, true);
  const Step plain = step_of(rule_, lr, step, false);
  const auto apply = [&](const Step& how, std::uint64_t first, std::uint64_t end) {
    rule_row(rule_.id).apply(how, array(0) + first, array(1) + first, stride_,
                             gradient.data() + (first - start), end - first);
  };
  write_blocks({start, gradient.size()}, [&](Range part) {
    if (rule_.weight_decay == 0) {
      apply(plain, part.start, part.end());
      return;
    }
    std::uint64_t done = part.start;
    auto range = std::ranges::upper_bound(decayed_, done, {}, &Range::end);
    for (; range != decayed_.end() && range->start < part.end(); ++range) {
      const std::uint64_t first = std::max(range->start, done);
      const std::uint64_t end = std::min(range->end(), part.end());
      apply(plain, done, first);
      apply(decays, first, end);
      done = end;
    }
    apply(plain, done, part.end());
  });
}

std::size_t Dense::floats(Contents contents) const {
  return contents == Contents::all ? arrays() : 1;
}

void Dense::save(Range range, Contents contents, float* into) const {
  for (std::size_t k = 0; k < floats(contents); ++k) {
    into = std::copy_n(array(k) + range.start, range.length, into);
  }
}

void Dense::load(Range range, const float* from) {
  write_blocks(range, [&](Range part) {
    for (std::size_t k = 0; k < arrays(); ++k) {
      std::copy_n(from + k * range.length + (part.start - range.start), part.length,
                  array(k) + part.start);
    }
  });
}

std::uint64_t Dense::bytes() const { return memory_.bytes() + version_bytes(); }

}  // namespace mls
