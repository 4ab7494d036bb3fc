// A worker's request, for the files of the client alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ps/client.hpp"

namespace mls {

// One request under way to one server.
struct Client::Call {
  Message head;
  int rank;
  std::size_t server;
  Buffer request = {};  // header, and values that come along
  Buffer answer = {};
  Buffer sent = {};                           // keys and gradients of rows
  Buffer received = {};                       // a frame, or rows in the order of the server's slots
  std::span<float> into = {};                 // of a dense table
  std::vector<std::uint32_t> positions = {};  // of rows
  std::span<float> rows_into = {};
  std::vector<Request> sends = {};
  Request hears = {};
  std::vector<Request> slices = {};
  bool heard = false;
  bool framed = false;          // what was received is a frame
  Message* answered = nullptr;  // where to put what its answer says
  Buffer* piece = nullptr;      // where to put what comes

  // Whether later answers build on this one: parameters of a dense table that travel as frames.
  bool keeps_told() const { return (head.flags & Message::kTakesFrames) && !into.empty(); }
};

}  // namespace mls
