// Low-rank approximation by one power iteration: PowerSGD (Vogels, Karimireddy, Jaggi 2019).
//
//   P = M Q; orthonormalise the columns of P; Q = M^T P; then M is about P Q^T
//
// P and Q of several ranks add up to those of the sum of their M, so that an exchange reduces P,
// orthonormalises it, and reduces Q: two dense sums of p_count and q_count numbers. Q is kept for
// the next step (warm start).
//
// M is row-major. P and Q are stored column by column: rank times `rows` numbers, rank times `cols`
// numbers. The order of every sum is fixed, and nothing is fused: all instruction sets, and so all
// ranks, get the same bits. NaN, infinity and what overflows spread to the whole matrix as NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/codec.hpp"

namespace mls {

// A matrix in a flat array.
struct Matrix {
  std::size_t start;
  std::size_t rows;
  std::size_t cols;
};
using Matrices = std::span<const Matrix>;

inline constexpr std::size_t kMostRank = 256;

// The rank that a matrix is approximated with; 0 for vectors, which none of these functions
// touches.
std::size_t rank_of(const Matrix& matrix, std::size_t rank);

// Numbers in the P and in the Q of all matrices, one after the other.
std::size_t p_count(Matrices matrices, std::size_t rank);
std::size_t q_count(Matrices matrices, std::size_t rank);

// A start for Q: independent numbers that are nearly normal (the sum of four uniform ones), the
// same on any machine.
void draw_q(Draw draw, std::span<float> q);

// P = M Q
void multiply_q(Matrices matrices, std::size_t rank, const float* m, const float* q, float* p);

// Makes the columns of every P orthonormal (modified Gram-Schmidt, twice). A column of which under
// 2^-20 is left, as it depends on those before it, becomes zero.
void orthonormalise(Matrices matrices, std::size_t rank, float* p);

// Q = M^T P
void multiply_p(Matrices matrices, std::size_t rank, const float* m, const float* p, float* q);

// M = P Q^T
void expand(Matrices matrices, std::size_t rank, const float* p, const float* q, float* m);

// M += factor * P Q^T. With a factor of -1, what is left is the residual.
void add_expanded(Matrices matrices, std::size_t rank, const float* p, const float* q, float factor,
                  float* m);

// Some rows of a matrix and of P, whose columns are `stride` numbers apart.
struct Strip {
  std::size_t count;
  std::size_t cols;
  std::size_t rank;
  std::size_t stride;
};

struct LowRankKernels {
  void (*multiply_q)(const Strip& rows, const float* m, const float* q, float* p);
  // adds to q
  void (*multiply_p)(const Strip& rows, const float* m, const float* p, float* q);
  void (*expand)(const Strip& rows, const float* p, const float* q, float* m);
  void (*add_expanded)(const Strip& rows, const float* p, const float* q, float factor, float* m);
  double (*dot)(const float* a, const float* b, std::size_t count);
  // a -= factor * b
  void (*subtract)(float* a, double factor, const float* b, std::size_t count);
};

namespace baseline {
extern const LowRankKernels low_rank_kernels;
}
namespace avx2 {
extern const LowRankKernels low_rank_kernels;
}
namespace avx512 {
extern const LowRankKernels low_rank_kernels;
}

// power_sgd on its own: an array of n numbers is a matrix of ceil(sqrt(n)) rows and
// ceil(n / rows) columns, filled up with zeros, and Q starts at random. Payload: uint32 rows, cols,
// rank; P; Q.
extern const Codec kPowerSgdRow;

}  // namespace mls
