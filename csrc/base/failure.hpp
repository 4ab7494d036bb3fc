// One exception for what can go wrong between ranks; every layer adds what it was doing.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace mls {

enum class FailureKind { config, timeout, rank_failed, corrupt };

class Failure : public std::runtime_error {
 public:
  Failure(FailureKind kind, const std::string& message, std::vector<int> ranks = {},
          bool on_all_ranks = false)
      : std::runtime_error(message),
        kind_(kind),
        ranks_(std::move(ranks)),
        on_all_ranks_(on_all_ranks) {}

  FailureKind kind() const { return kind_; }
  const std::vector<int>& ranks() const { return ranks_; }  // known or suspected to be gone
  bool on_all_ranks() const { return on_all_ranks_; }       // each rank throws this same failure

  // The same failure with one more layer of its story in front.
  Failure during(const std::string& what) const {
    return Failure(kind_, what + ": " + this->what(), ranks_, on_all_ranks_);
  }

 private:
  FailureKind kind_;
  std::vector<int> ranks_;
  bool on_all_ranks_;
};

}  // namespace mls
