// The frame of one collective: its number, its deadline, and the story that its errors tell.
#pragma once

#include <sstream>
#include <string>

#include "base/failure.hpp"
#include "comm/collectives.hpp"
#include "comm/transport.hpp"

namespace mls {

class Story {
 public:
  Story(const char* operation, Transport& transport, const Options& options)
      : operation_(operation),
        transport_(transport),
        options_(options),
        sequence_(transport.next_sequence()),
        started_(Clock::now()),
        deadline_(started_ + std::chrono::duration_cast<Clock::duration>(options.timeout)) {}

  std::uint32_t sequence() const { return sequence_; }
  Deadline deadline() const { return deadline_; }

  // Runs a part of the operation; a Failure gets operation, number, array and rank in front and
  // the elapsed time behind.
  template <class Body>
  void tell(Body body) const {
    try {
      body();
    } catch (const Failure& failure) {
      std::ostringstream text;
      text << operation_ << " #" << sequence_;
      if (!options_.label.empty()) text << " of " << options_.label;
      // a mistake that all ranks report reads the same on all of them
      if (failure.kind() != FailureKind::config) {
        const std::chrono::duration<double> elapsed = Clock::now() - started_;
        text.precision(3);
        text << " on rank " << transport_.rank() << " after " << elapsed.count() << " s";
      }
      throw failure.during(text.str());
    }
  }

 private:
  const char* operation_;
  Transport& transport_;
  const Options& options_;
  const std::uint32_t sequence_;
  const Clock::time_point started_;
  const Deadline deadline_;
};

}  // namespace mls
