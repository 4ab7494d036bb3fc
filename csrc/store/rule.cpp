#include "store/rule.hpp"

#include <algorithm>
#include <cmath>

#include "store/rule_loops.hpp"

namespace mls {
namespace {

// clang-format off
constexpr std::array<RuleRow, kRules> kRows{{
    //                                    per element, per row, rows only
    {RuleId::sgd,         "sgd",          0, 0, false, rule_loops::sgd},
    {RuleId::momentum,    "momentum",     1, 0, false, rule_loops::momentum},
    {RuleId::adagrad,     "adagrad",      1, 0, false, rule_loops::adagrad},
    {RuleId::adam,        "adam",         2, 0, false, rule_loops::adam},
    {RuleId::ftrl,        "ftrl",         2, 0, false, rule_loops::ftrl},
    {RuleId::row_adagrad, "row_adagrad",  0, 1, true,  rule_loops::row_adagrad},
    {RuleId::lazy_adam,   "lazy_adam",    2, 0, true,  rule_loops::adam},
}};
// clang-format on

static_assert([] {
  for (std::size_t i = 0; i < kRules; ++i) {
    if (kRows[i].id != static_cast<RuleId>(i)) return false;
  }
  return true;
}());

bool is_adam(RuleId id) { return id == RuleId::adam || id == RuleId::lazy_adam; }

bool has_eps(RuleId id) {
  return is_adam(id) || id == RuleId::adagrad || id == RuleId::row_adagrad;
}

// As the loops see them: what is not a finite float32 is wrong, and an eps that is zero there.
bool at_least_zero(double number) {
  return number >= 0 && std::isfinite(static_cast<float>(number));
}

bool a_share(double number) { return number >= 0 && static_cast<float>(number) < 1; }

}  // namespace

const RuleRow& rule_row(RuleId id) { return kRows[static_cast<std::size_t>(id)]; }

std::optional<RuleId> rule_named(std::string_view name) {
  const auto found = std::ranges::find(kRows, name, &RuleRow::name);
  if (found == kRows.end()) return std::nullopt;
  return found->id;
}

std::optional<std::string> problem(const Rule& rule) {
  if (static_cast<std::size_t>(rule.id) >= kRules) return "there is no such rule";
  if (rule.id == RuleId::momentum && !a_share(rule.momentum)) {
    return "a momentum of " + std::to_string(rule.momentum) + " must be from 0 to below 1";
  }
  if (rule.nesterov && (rule.id != RuleId::momentum || rule.momentum == 0)) {
    return "Nesterov's method needs a momentum above 0, such as 0.9";
  }
  if (is_adam(rule.id) && (!a_share(rule.beta1) || !a_share(rule.beta2))) {
    return "betas of " + std::to_string(rule.beta1) + " and " + std::to_string(rule.beta2) +
           " must be from 0 to below 1";
  }
  if (has_eps(rule.id) && !(at_least_zero(rule.eps) && static_cast<float>(rule.eps) > 0)) {
    return "eps must be above 0, such as 1e-8";
  }
  if (rule.id == RuleId::ftrl &&
      !(at_least_zero(rule.l1) && at_least_zero(rule.l2) && at_least_zero(rule.beta))) {
    return "l1, l2 and beta must be at least 0";
  }
  if (!at_least_zero(rule.weight_decay)) {
    return "a weight decay of " + std::to_string(rule.weight_decay) + " must be at least 0";
  }
  if (rule.id == RuleId::ftrl && rule.weight_decay != 0) {
    return "ftrl has l2 in place of weight decay";
  }
  if (rule.decoupled && !is_adam(rule.id)) return "only the Adams have decoupled weight decay";
  return std::nullopt;
}

Step step_of(const Rule& rule, float lr, std::uint64_t step, bool decays) {
  const auto narrow = [](double number) { return static_cast<float>(number); };
  const auto t = static_cast<double>(step);
  const float decay = decays ? narrow(rule.weight_decay) : 0;
  const bool adam = is_adam(rule.id);
  return {.lr = lr,
          .decay = rule.decoupled ? 0 : decay,
          .shrink = rule.decoupled ? 1 - lr * decay : 1,
          .momentum = narrow(rule.momentum),
          .nesterov = rule.nesterov,
          .beta1 = narrow(rule.beta1),
          .beta2 = narrow(rule.beta2),
          .other1 = narrow(1 - rule.beta1),
          .other2 = narrow(1 - rule.beta2),
          .unbias1 = adam ? narrow(1 / (1 - std::pow(rule.beta1, t))) : 1,
          .unbias2 = adam ? narrow(1 / std::sqrt(1 - std::pow(rule.beta2, t))) : 1,
          .eps = narrow(rule.eps),
          .l1 = narrow(rule.l1),
          .l2 = narrow(rule.l2),
          .beta = narrow(rule.beta)};
}

void update(const Rule& rule, float* w, float* state, std::size_t stride, const float* gradient,
            std::size_t count, float lr, std::uint64_t step, bool decays) {
  rule_row(rule.id).apply(step_of(rule, lr, step, decays), w, state, stride, gradient, count);
}

void update_row(const Rule& rule, float* w, float* state, const float* gradient, std::size_t width,
                float lr, std::uint64_t step) {
  update(rule, w, state, width, gradient, width, lr, step, true);
}

}  // namespace mls
