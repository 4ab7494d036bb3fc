// Some rows of a table that is updated sparsely: embeddings, linear models of sparse features.
//
// A row's parameters and state lie side by side and take no memory before they are touched. Slots
// are uint32; callers have checked them (`fits`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "store/initial.hpp"
#include "store/rule.hpp"
#include "store/table.hpp"

namespace mls {

class Rows final : public Table {
 public:
  // Throws Failure where the rule has a problem or there are more slots than uint32 can name.
  Rows(std::uint64_t slots, std::uint32_t width, const Rule& rule);

  std::uint64_t slots() const { return entries(); }
  std::uint32_t width() const { return width_; }
  const Rule& rule() const { return rule_; }

  // Whether all of them are slots of this table.
  bool fits(std::span<const std::uint32_t> slots) const;

  std::span<const float> row(std::uint64_t slot) const;  // its parameters

  // Copies parameters out: slots.size() * width floats.
  void pull(std::span<const std::uint32_t> slots, std::span<float> into) const;

  // Sets parameters.
  void write(std::span<const std::uint32_t> slots, std::span<const float> values);

  // One step of the optimiser on these rows, each of them once; the first step is 1.
  void update(std::span<const std::uint32_t> slots, std::span<const float> gradients, float lr,
              std::uint64_t step);

  // The first parameters of every slot of a new table; row_of(slot) is its row in the whole table.
  void initialise(const Initial& initial,
                  const std::function<std::uint64_t(std::uint64_t)>& row_of);

  std::size_t floats(Contents contents) const override;
  void save(Range range, Contents contents, float* into) const override;
  void load(Range range, const float* from) override;
  std::uint64_t bytes() const override;

 private:
  float* at(std::uint64_t slot);
  const float* at(std::uint64_t slot) const;

  std::uint32_t width_;
  Rule rule_;
  std::size_t stride_;  // floats of a row and its state
  Memory memory_;
};

}  // namespace mls
