// Optimisers as a table of rows: how parameters change with a gradient g at step t and rate lr.
//
//   sgd          w -= lr g
//   momentum     v = m v + g;  w -= lr v, or lr (g + m v) with Nesterov
//                (Sutskever, Martens, Dahl, Hinton 2013, in PyTorch's formulation)
//   adagrad      n += g^2;  w -= lr g / (sqrt(n) + eps)
//                (Duchi, Hazan, Singer 2011, diagonal; eps as in PyTorch)
//   adam         m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
//                w -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
//                (Kingma, Ba 2015, algorithm 1; decoupled: Loshchilov, Hutter 2019, algorithm 2)
//   ftrl         s = (sqrt(n + g^2) - sqrt(n)) / lr;  z += g - s w;  n += g^2;
//                w = 0 where |z| <= l1, else (sign(z) l1 - z) / ((beta + sqrt(n)) / lr + l2)
//                (McMahan et al. 2013, "Ad click prediction", algorithm 1; w should start at zero)
//   row_adagrad  n += mean of g^2 over the row;  w -= lr g / (sqrt(n) + eps)
//                (one number per row, as FBGEMM's rowwise Adagrad for embeddings)
//   lazy_adam    adam, with the table's t, of the rows that have a gradient
//
// Weight decay is added to the gradient: g + weight_decay w; for the Adams that are `decoupled`,
// w *= 1 - lr weight_decay comes before instead. All is float32, in the order of operations of
// mpimlsys/optim, whose sgd and adam give the same bits. State starts at zero.
//
// In a table of rows, those without a gradient stay as they are, state and all, under any rule.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mls {

enum class RuleId : std::uint8_t { sgd, momentum, adagrad, adam, ftrl, row_adagrad, lazy_adam };
inline constexpr std::size_t kRules = 7;

struct Rule {
  RuleId id = RuleId::sgd;
  double momentum = 0.9;  // momentum
  bool nesterov = false;
  double beta1 = 0.9;  // the Adams
  double beta2 = 0.999;
  double eps = 1e-8;  // the Adams and the Adagrads
  double l1 = 0;      // ftrl
  double l2 = 0;
  double beta = 1;
  double weight_decay = 0;  // all but ftrl, which has l2
  bool decoupled = false;   // the Adams
};

// What a step needs besides the arrays, worked out once for all of them.
struct Step {
  float lr;
  float decay;   // 0 for none
  float shrink;  // 1 - lr decay, where that is decoupled; 1 else
  float momentum;
  bool nesterov;
  float beta1, beta2, other1, other2;  // other: 1 - beta
  float unbias1, unbias2;              // 1 / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  float eps;
  float l1, l2, beta;
};

struct RuleRow {
  RuleId id;
  std::string_view name;
  std::size_t per_element;  // floats of state of every parameter
  std::size_t per_row;      // and of a whole row
  bool rows_only;           // makes no sense for an array without rows

  // Updates `count` elements: state k of element i at state[k * stride + i]. What is per row lies
  // behind that, at state[per_element * stride], and then the elements are all of a row.
  void (*apply)(const Step&, float* w, float* state, std::size_t stride, const float* gradient,
                std::size_t count);

  std::size_t state_of(std::size_t width) const { return per_element * width + per_row; }
};

const RuleRow& rule_row(RuleId id);
std::optional<RuleId> rule_named(std::string_view name);

// What is wrong with the numbers of a rule, in words.
std::optional<std::string> problem(const Rule& rule);

// The first step is 1.
Step step_of(const Rule& rule, float lr, std::uint64_t step, bool decays = true);

// Updates `count` elements of an array; arrays do not overlap.
void update(const Rule& rule, float* w, float* state, std::size_t stride, const float* gradient,
            std::size_t count, float lr, std::uint64_t step, bool decays);

// Updates a row of `width` elements: `state` has per_element arrays of `width`, then per_row.
void update_row(const Rule& rule, float* w, float* state, const float* gradient, std::size_t width,
                float lr, std::uint64_t step);

}  // namespace mls
