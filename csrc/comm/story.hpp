// The frame of one collective: its number, its deadline, and the story that its errors tell.
#pragma once

#include <sstream>
#include <string>

#include "comm/collectives.hpp"
#include "comm/transport.hpp"

namespace mls {

class Story {
 public:
  // bytes: of this rank's array, for the trace.
  Story(const char* operation, Transport& transport, const Options& options, std::size_t bytes)
      : operation_(operation),
        transport_(transport),
        options_(options),
        started_(Clock::now()),
        deadline_(started_ + std::chrono::duration_cast<Clock::duration>(options.timeout)),
        sequence_(transport.begin(operation, options.label, options.passed, started_, deadline_,
                                  options.watch)),
        span_(transport.trace(), operation, sequence_, bytes, options.label) {}
  ~Story() { transport_.end(failure_); }
  Story(const Story&) = delete;
  Story& operator=(const Story&) = delete;

  std::uint32_t sequence() const { return sequence_; }
  Deadline deadline() const { return deadline_; }

  // Runs the operation; a Failure gets operation, number, label and rank in front, and the elapsed
  // time. What all ranks report reads the same on all of them.
  template <class Body>
  void tell(Body body) {
    try {
      body();
    } catch (const Failure& failure) {
      std::ostringstream text;
      text << operation_ << " #" << sequence_;
      if (!options_.label.empty()) text << " of " << options_.label;
      if (!failure.on_all_ranks()) {
        const std::chrono::duration<double> elapsed = Clock::now() - started_;
        text.precision(3);
        text << " on rank " << transport_.rank() << " after " << elapsed.count() << " s";
      }
      failure_ = failure.during(text.str());
      throw *failure_;
    }
  }

 private:
  const char* operation_;
  Transport& transport_;
  const Options& options_;
  const Clock::time_point started_;
  const Deadline deadline_;
  const std::uint32_t sequence_;
  const Span span_;
  std::optional<Failure> failure_;
};

}  // namespace mls
