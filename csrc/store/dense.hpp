// A range of a dense array of parameters, and the optimiser's state of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "store/rule.hpp"
#include "store/table.hpp"

namespace mls {

class Dense final : public Table {
 public:
  // Weight decay applies to these ranges of the share alone, ascending. Throws Failure where the
  // rule has a problem or is for rows.
  Dense(std::size_t count, const Rule& rule, std::vector<Range> decayed);

  std::size_t count() const { return static_cast<std::size_t>(entries()); }
  std::span<const float> values() const;
  std::span<const float> state(std::size_t k) const;  // k < per_element
  const Rule& rule() const { return rule_; }

  // Sets the parameters [start, start + values.size()).
  void write(std::size_t start, std::span<const float> values);

  // One step of the optimiser on elements [start, start + gradient.size()); the first is 1.
  void update(std::size_t start, std::span<const float> gradient, float lr, std::uint64_t step);

  std::size_t floats(Contents contents) const override;
  void save(Range range, Contents contents, float* into) const override;
  void load(Range range, const float* from) override;
  std::uint64_t bytes() const override;

 private:
  // Array 0 is the parameters, array 1 + k the state k.
  std::size_t arrays() const { return 1 + rule_row(rule_.id).per_element; }
  float* array(std::size_t k) { return memory_.as<float>() + k * stride_; }
  const float* array(std::size_t k) const { return memory_.as<float>() + k * stride_; }

  Rule rule_;
  std::vector<Range> decayed_;
  std::size_t stride_;  // from array to array: whole cache lines
  Memory memory_;
};

}  // namespace mls
