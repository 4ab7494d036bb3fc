// One pass over the arrays each, without branches inside, so that they become vector code of any
// instruction set. Rounding is that of the formulas as written: float32, no fused operations.
#include "store/rule_loops.hpp"

#include <cfloat>

namespace mls::rule_loops {
namespace {

template <bool kDecays>
float decayed(float gradient, float decay, float w) {
  return kDecays ? gradient + decay * w : gradient;
}

template <bool kDecays>
void sgd_of(const Step& step, float* __restrict w, const float* __restrict gradient,
            std::size_t count) {
  const float lr = step.lr, decay = step.decay;
  for (std::size_t i = 0; i < count; ++i) {
    w[i] -= lr * decayed<kDecays>(gradient[i], decay, w[i]);
  }
}

template <bool kDecays, bool kNesterov>
void momentum_of(const Step& step, float* __restrict w, float* __restrict v,
                 const float* __restrict gradient, std::size_t count) {
  const float lr = step.lr, decay = step.decay, momentum = step.momentum;
  for (std::size_t i = 0; i < count; ++i) {
    const float g = decayed<kDecays>(gradient[i], decay, w[i]);
    const float velocity = v[i] * momentum + g;
    v[i] = velocity;
    w[i] -= lr * (kNesterov ? g + momentum * velocity : velocity);
  }
}

template <bool kDecays>
void adagrad_of(const Step& step, float* __restrict w, float* __restrict n,
                const float* __restrict gradient, std::size_t count) {
  const float lr = step.lr, decay = step.decay, eps = step.eps;
  for (std::size_t i = 0; i < count; ++i) {
    const float g = decayed<kDecays>(gradient[i], decay, w[i]);
    const float sum = n[i] + g * g;
    n[i] = sum;
    w[i] -= lr * (g / (__builtin_sqrtf(sum) + eps));
  }
}

// shrink is 1 unless decay is decoupled, which changes nothing
template <bool kDecays>
void adam_of(const Step& step, float* __restrict w, float* __restrict m, float* __restrict v,
             const float* __restrict gradient, std::size_t count) {
  const float lr = step.lr, decay = step.decay, shrink = step.shrink, eps = step.eps;
  const float beta1 = step.beta1, beta2 = step.beta2;
  const float other1 = step.other1, other2 = step.other2;
  const float unbias1 = step.unbias1, unbias2 = step.unbias2;
  for (std::size_t i = 0; i < count; ++i) {
    const float before = w[i] * shrink;
    const float g = decayed<kDecays>(gradient[i], decay, before);
    const float mean = m[i] * beta1 + other1 * g;
    const float square = v[i] * beta2 + other2 * (g * g);
    m[i] = mean;
    v[i] = square;
    w[i] = before - lr * (mean * unbias1 / (__builtin_sqrtf(square) * unbias2 + eps));
  }
}

// sqrt(n + g^2) - sqrt(n) is g^2 / (sqrt(n + g^2) + sqrt(n)), which does not cancel. FLT_MIN only
// matters where it keeps 0 / 0 away. A reach that is NaN stays one.
void ftrl_of(const Step& step, float* __restrict w, float* __restrict z, float* __restrict n,
             const float* __restrict gradient, std::size_t count) {
  const float per_lr = 1 / step.lr, l1 = step.l1, l2 = step.l2, beta = step.beta;
  for (std::size_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    const float sum = n[i] + g * g;
    const float root = __builtin_sqrtf(sum);
    const float sigma = g * g / (root + __builtin_sqrtf(n[i]) + FLT_MIN) * per_lr;
    const float reach = z[i] + (g - sigma * w[i]);
    const float over = __builtin_fabsf(reach) - l1;
    const float shrunk = __builtin_copysignf(over < 0 ? 0.0f : over, reach);
    n[i] = sum;
    z[i] = reach;
    w[i] = 0 - shrunk / ((beta + root) * per_lr + l2 + FLT_MIN);
  }
}

// The sum of squares is of four sums in turn, whatever the instruction set.
template <bool kDecays>
void row_adagrad_of(const Step& step, float* __restrict w, float* __restrict n,
                    const float* __restrict gradient, std::size_t count) {
  const float lr = step.lr, decay = step.decay;
  float sums[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) {
      const float g = decayed<kDecays>(gradient[i + k], decay, w[i + k]);
      sums[k] += g * g;
    }
  }
  for (; i < count; ++i) {
    const float g = decayed<kDecays>(gradient[i], decay, w[i]);
    sums[i % 4] += g * g;
  }
  *n += (sums[0] + sums[1] + (sums[2] + sums[3])) / static_cast<float>(count);
  const float rooted = __builtin_sqrtf(*n) + step.eps;
  for (i = 0; i < count; ++i) {
    w[i] -= lr * (decayed<kDecays>(gradient[i], decay, w[i]) / rooted);
  }
}

}  // namespace

void sgd(const Step& step, float* w, float*, std::size_t, const float* gradient,
         std::size_t count) {
  (step.decay == 0 ? sgd_of<false> : sgd_of<true>)(step, w, gradient, count);
}

void momentum(const Step& step, float* w, float* state, std::size_t, const float* gradient,
              std::size_t count) {
  const auto plain = step.decay == 0 ? momentum_of<false, false> : momentum_of<true, false>;
  const auto nesterov = step.decay == 0 ? momentum_of<false, true> : momentum_of<true, true>;
  (step.nesterov ? nesterov : plain)(step, w, state, gradient, count);
}

void adagrad(const Step& step, float* w, float* state, std::size_t, const float* gradient,
             std::size_t count) {
  (step.decay == 0 ? adagrad_of<false> : adagrad_of<true>)(step, w, state, gradient, count);
}

void adam(const Step& step, float* w, float* state, std::size_t stride, const float* gradient,
          std::size_t count) {
  (step.decay == 0 ? adam_of<false> : adam_of<true>)(step, w, state, state + stride, gradient,
                                                     count);
}

void ftrl(const Step& step, float* w, float* state, std::size_t stride, const float* gradient,
          std::size_t count) {
  if (step.lr == 0) return;  // its regularised solution is not defined then
  ftrl_of(step, w, state, state + stride, gradient, count);
}

void row_adagrad(const Step& step, float* w, float* state, std::size_t, const float* gradient,
                 std::size_t count) {
  if (count == 0) return;
  (step.decay == 0 ? row_adagrad_of<false> : row_adagrad_of<true>)(step, w, state, gradient, count);
}

}  // namespace mls::rule_loops
