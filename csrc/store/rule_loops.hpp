// The loops of the rules (rule.hpp), as RuleRow::apply has them.
#pragma once

#include <cstddef>

#include "store/rule.hpp"

namespace mls::rule_loops {

using Loop = void(const Step&, float* w, float* state, std::size_t stride, const float* gradient,
                  std::size_t count);

Loop sgd, momentum, adagrad, adam, ftrl, row_adagrad;

}  // namespace mls::rule_loops
