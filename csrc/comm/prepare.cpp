#include "comm/prepare.hpp"

#include <vector>

#include "comm/agree.hpp"
#include "comm/board.hpp"

namespace mls {

bool meets(const Transport& transport) {
  return transport.board() != nullptr && transport.board()->size() == transport.size();
}

void announce(Transport& transport, const Intent& intent, const Story& story, const Place& place,
              std::span<const std::byte> small) {
  const Span span(transport.trace(), "meeting");
  transport.board()->meet(transport,
                          {.intent = intent,
                           .sequence = story.sequence(),
                           .window = place.window ? place.window->memory().number() : 0,
                           .offset = place.offset},
                          small, story.deadline());
}

void prepare(Transport& transport, const Intent& intent, const Options& options, const Story& story,
             const Place& place, std::span<const std::byte> small) {
  if (meets(transport)) {
    announce(transport, intent, story, place, small);
    std::vector<Caller> callers;
    for (int rank = 0; rank < transport.size(); ++rank) {
      const Announcement& other = transport.board()->announced(rank);
      callers.push_back({other.intent, other.sequence});
    }
    compare(callers);
  } else if (options.check) {
    agree(transport, intent, story.sequence(), story.deadline());
  } else if (intent.fault != Fault::none) {
    refuse(intent.fault, transport.rank());
  }
}

}  // namespace mls
