// Every rule against its formula in float64, first steps by hand, and the laws of the loops.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"
#include "store/rule.hpp"

namespace {

using namespace mls;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

float number(std::uint64_t key, std::size_t i) {
  return static_cast<float>(random_bits(key, i)) * 0x1p-31f - 1;
}

Floats numbers(std::uint64_t key, std::size_t count) {
  Floats x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = number(key, i);
  return x;
}

std::vector<Rule> rules() {
  std::vector<Rule> all;
  for (std::size_t id = 0; id < kRules; ++id) {
    const Rule rule{.id = static_cast<RuleId>(id)};
    all.push_back(rule);
    if (rule.id != RuleId::ftrl) {
      all.push_back(rule);
      all.back().weight_decay = 0.1;
    }
  }
  all.push_back({.id = RuleId::momentum, .nesterov = true});
  all.push_back({.id = RuleId::momentum, .nesterov = true, .weight_decay = 0.1});
  all.push_back({.id = RuleId::adam, .weight_decay = 0.1, .decoupled = true});
  all.push_back({.id = RuleId::lazy_adam, .beta1 = 0.5, .weight_decay = 0.1, .decoupled = true});
  all.push_back({.id = RuleId::ftrl, .l1 = 0.3, .l2 = 0.2, .beta = 0.5});
  all.push_back({.id = RuleId::ftrl, .beta = 0});
  return all;
}

// One step as the formulas of rule.hpp have it. State k of element i at state[k * width + i].
void by_formula(const Rule& rule, Doubles& w, Doubles& state, const Floats& gradient, double lr,
                double t, bool decays) {
  const std::size_t width = w.size();
  const double decay = decays ? rule.weight_decay : 0;
  Doubles g(gradient.begin(), gradient.end());
  for (std::size_t i = 0; i < width; ++i) {
    if (rule.decoupled) {
      w[i] *= 1 - lr * decay;
    } else {
      g[i] += decay * w[i];
    }
  }
  double squares = 0;
  for (const double x : g) squares += x * x;
  for (std::size_t i = 0; i < width; ++i) {
    switch (rule.id) {
      case RuleId::sgd:
        w[i] -= lr * g[i];
        break;
      case RuleId::momentum: {
        double& v = state[i];
        v = rule.momentum * v + g[i];
        w[i] -= lr * (rule.nesterov ? g[i] + rule.momentum * v : v);
        break;
      }
      case RuleId::adagrad:
        state[i] += g[i] * g[i];
        w[i] -= lr * g[i] / (std::sqrt(state[i]) + rule.eps);
        break;
      case RuleId::adam:
      case RuleId::lazy_adam: {
        double& m = state[i];
        double& v = state[width + i];
        m = rule.beta1 * m + (1 - rule.beta1) * g[i];
        v = rule.beta2 * v + (1 - rule.beta2) * g[i] * g[i];
        const double mean = m / (1 - std::pow(rule.beta1, t));
        const double square = v / (1 - std::pow(rule.beta2, t));
        w[i] -= lr * mean / (std::sqrt(square) + rule.eps);
        break;
      }
      case RuleId::ftrl: {
        double& z = state[i];
        double& n = state[width + i];
        const double sigma = (std::sqrt(n + g[i] * g[i]) - std::sqrt(n)) / lr;
        z += g[i] - sigma * w[i];
        n += g[i] * g[i];
        const double sign = z < 0 ? -1 : 1;
        const double rate = (rule.beta + std::sqrt(n)) / lr + rule.l2;
        w[i] = std::abs(z) <= rule.l1 ? 0 : -(z - sign * rule.l1) / rate;
        break;
      }
      case RuleId::row_adagrad:
        if (i == 0) state[0] += squares / static_cast<double>(width);
        w[i] -= lr * g[i] / (std::sqrt(state[0]) + rule.eps);
        break;
    }
  }
}

bool near(const Floats& x, const Doubles& y, double relative) {
  double largest = 1;
  for (const double value : y) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(std::abs(x[i] - y[i]) <= relative * largest)) return false;
  }
  return true;
}

TEST(every_rule_follows_its_formula) {
  for (const Rule& rule : rules()) {
    CHECK(!problem(rule));
    for (const std::size_t width : {1u, 2u, 3u, 4u, 5u, 8u, 16u, 17u, 100u}) {
      Floats w = rule.id == RuleId::ftrl ? Floats(width, 0.0f) : numbers(1, width);
      Floats state(rule_row(rule.id).state_of(width), 0.0f);
      Doubles exact(w.begin(), w.end());
      Doubles exact_state(state.size(), 0.0);
      for (std::uint64_t t = 1; t <= 20; ++t) {
        const Floats gradient = numbers(10 + t, width);
        const float lr = t < 10 ? 0.05f : 0.01f;
        update_row(rule, w.data(), state.data(), gradient.data(), width, lr, t);
        by_formula(rule, exact, exact_state, gradient, lr, static_cast<double>(t), true);
        CHECK(near(w, exact, 1e-5));
        CHECK(near(state, exact_state, 1e-5));
      }
    }
  }
}

TEST(first_steps_are_those_worked_out_by_hand) {
  const auto first = [](const Rule& rule, float w, float g, float lr) {
    float state[2] = {};
    update(rule, &w, state, 1, &g, 1, lr, 1, true);
    return w;
  };
  CHECK(first({}, 1, 0.5f, 0.25f) == 1 - 0.125f);
  CHECK(first({.weight_decay = 0.5}, 1, 0.5f, 0.25f) == 0.75f);
  CHECK(first({.id = RuleId::momentum, .momentum = 0.5}, 1, 0.5f, 0.25f) == 0.875f);
  CHECK(first({.id = RuleId::momentum, .momentum = 0.5, .nesterov = true}, 1, 0.5f, 0.25f) ==
        1 - 0.25f * 0.75f);
  CHECK(first({.id = RuleId::adagrad, .eps = 0.5}, 1, 0.5f, 0.25f) == 0.875f);
  CHECK(first({.id = RuleId::row_adagrad, .eps = 0.5}, 1, 0.5f, 0.25f) == 0.875f);
  // Adam's first step has the size of the learning rate, whatever the gradient
  CHECK(std::abs(first({.id = RuleId::adam}, 1, 1e-3f, 0.25f) - 0.75f) < 1e-5f);
  CHECK(std::abs(first({.id = RuleId::lazy_adam}, 1, -40, 0.25f) - 1.25f) < 1e-6f);
  // z = g = 2, n = 4: -(2 - 1) / ((1 + 2) / 0.5 + 2)
  CHECK(std::abs(first({.id = RuleId::ftrl, .l1 = 1, .l2 = 2}, 0, 2, 0.5f) + 0.125f) < 1e-7f);
}

TEST(the_second_step_of_row_adagrad_is_that_worked_out_by_hand) {
  const Rule rule{.id = RuleId::row_adagrad, .eps = 1};
  float w[] = {0, 0, 0, 0};
  float n = 0;
  const float first[] = {2, 0, 0, 0};   // mean of squares 1
  const float second[] = {0, 0, 0, 4};  // and 4 more
  update_row(rule, w, &n, first, 4, 1, 1);
  CHECK(n == 1 && w[0] == -1 && w[3] == 0);
  update_row(rule, w, &n, second, 4, 1, 2);
  CHECK(n == 5 && w[0] == -1 && std::abs(w[3] + 4 / (std::sqrt(5.0f) + 1)) < 1e-6f);
}

TEST(plain_sgd_rounds_as_its_formula_in_float32) {
  for (const std::size_t count : {1u, 7u, 64u, 1001u}) {
    Floats w = numbers(1, count), expected = w;
    const Floats g = numbers(2, count);
    update({}, w.data(), nullptr, count, g.data(), count, 0.1f, 1, true);
    for (std::size_t i = 0; i < count; ++i) {
      const float change = 0.1f * g[i];
      expected[i] -= change;
    }
    CHECK(w == expected);
  }
}

// All but row_adagrad: a step on parts gives the same bits as on the whole.
TEST(elements_do_not_depend_on_their_neighbours) {
  constexpr std::size_t kCount = 103;
  for (const Rule& rule : rules()) {
    const RuleRow& row = rule_row(rule.id);
    if (row.per_row != 0) continue;
    Floats whole = numbers(3, kCount), parts = whole;
    Floats whole_state(row.per_element * kCount, 0.0f), parts_state = whole_state;
    for (std::uint64_t t = 1; t < 4; ++t) {
      const Floats g = numbers(t, kCount);
      update(rule, whole.data(), whole_state.data(), kCount, g.data(), kCount, 0.1f, t, true);
      for (std::size_t start = 0, length = 1; start < kCount; start += length++) {
        const std::size_t count = std::min(length, kCount - start);
        update(rule, parts.data() + start, parts_state.data() + start, kCount, g.data() + start,
               count, 0.1f, t, true);
      }
    }
    CHECK(whole == parts && whole_state == parts_state);
  }
}

TEST(weight_decay_is_left_out_where_it_does_not_apply) {
  for (const Rule& rule : rules()) {
    Rule without = rule;
    without.weight_decay = 0;
    without.decoupled = false;
    Floats w = numbers(1, 33), expected = w, state(66, 0.0f), expected_state = state;
    const Floats g = numbers(2, 33);
    update(rule, w.data(), state.data(), 33, g.data(), 33, 0.1f, 1, false);
    update(without, expected.data(), expected_state.data(), 33, g.data(), 33, 0.1f, 1, true);
    CHECK(w == expected && state == expected_state);
    update(rule, w.data(), state.data(), 33, g.data(), 33, 0.1f, 2, true);
    update(without, expected.data(), expected_state.data(), 33, g.data(), 33, 0.1f, 2, true);
    CHECK((w == expected) == (rule.weight_decay == 0));
  }
}

TEST(ftrl_has_exact_zeros_where_l1_outweighs_the_gradients) {
  const Rule rule{.id = RuleId::ftrl, .l1 = 1};
  Floats w(40, 0.0f), state(80, 0.0f);
  for (std::uint64_t t = 1; t <= 4; ++t) {
    Floats g(40);
    for (std::size_t i = 0; i < g.size(); ++i) {
      g[i] = 0.25f * (static_cast<float>(i) - 20) / 20 * (i % 2 == 0 ? 1.0f : 3.0f);
    }
    update(rule, w.data(), state.data(), 40, g.data(), 40, 0.5f, t, true);
    for (std::size_t i = 0; i < w.size(); ++i) {
      CHECK((w[i] == 0) == (std::abs(state[i]) <= 1));
      CHECK(w[i] == 0 ? !std::signbit(w[i]) : std::signbit(w[i]) != std::signbit(state[i]));
    }
  }
  CHECK(std::ranges::count(w, 0.0f) > 10 && std::ranges::count(w, 0.0f) < 35);
}

TEST(ftrl_stays_where_nothing_moves_it) {
  const Rule rule{.id = RuleId::ftrl, .l1 = 0, .l2 = 0, .beta = 0};
  float w = 0, state[2] = {}, g = 0;
  update(rule, &w, state, 1, &g, 1, 0.1f, 1, true);
  CHECK(w == 0 && state[0] == 0 && state[1] == 0);
  g = 1;
  update(rule, &w, state, 1, &g, 1, 0, 1, true);  // a rate of zero
  CHECK(w == 0 && state[0] == 0 && state[1] == 0);
}

TEST(what_is_not_a_number_stays_to_be_seen) {
  for (const Rule& rule : rules()) {
    Floats w(5, 0.0f), state(10, 0.0f), g(5, 0.0f);
    g[2] = std::numeric_limits<float>::quiet_NaN();
    update_row(rule, w.data(), state.data(), g.data(), 5, 0.1f, 1);
    CHECK(std::isnan(w[2]));
    CHECK(rule.id == RuleId::row_adagrad || w[1] == 0);
  }
}

TEST(rules_are_found_by_name_and_wrong_numbers_are_named) {
  for (std::size_t id = 0; id < kRules; ++id) {
    const RuleRow& row = rule_row(static_cast<RuleId>(id));
    CHECK(rule_named(row.name) == row.id);
  }
  CHECK(!rule_named("sdg") && !rule_named(""));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto wrong = [](const Rule& rule, const char* word) {
    const auto words = problem(rule);
    return words && test::contains(*words, word);
  };
  for (const double bad : {1.0, -0.1, 0.99999999999, nan}) {
    CHECK(wrong({.id = RuleId::momentum, .momentum = bad}, "momentum"));
    CHECK(wrong({.id = RuleId::adam, .beta1 = bad}, "betas"));
    CHECK(wrong({.id = RuleId::lazy_adam, .beta2 = bad}, "betas"));
  }
  for (const double bad : {-1.0, nan, 1e300}) {
    CHECK(wrong({.weight_decay = bad}, "decay"));
    CHECK(wrong({.id = RuleId::ftrl, .l1 = bad}, "l1"));
    CHECK(wrong({.id = RuleId::ftrl, .l2 = bad}, "l2"));
    CHECK(wrong({.id = RuleId::ftrl, .beta = bad}, "beta"));
    CHECK(wrong({.id = RuleId::adagrad, .eps = bad}, "eps"));
  }
  CHECK(wrong({.id = RuleId::adam, .eps = 1e-60}, "eps"));
  CHECK(wrong({.id = RuleId::sgd, .nesterov = true}, "Nesterov"));
  CHECK(wrong({.id = RuleId::momentum, .momentum = 0, .nesterov = true}, "Nesterov"));
  CHECK(wrong({.id = RuleId::ftrl, .weight_decay = 0.1}, "l2"));
  CHECK(wrong({.id = RuleId::sgd, .weight_decay = 0.1, .decoupled = true}, "decoupled"));
  CHECK(wrong({.id = static_cast<RuleId>(99)}, "rule"));
}

}  // namespace
