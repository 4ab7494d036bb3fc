// The MPI transport, without mpi.h: the only file that includes that is mpi.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "comm/transport.hpp"

namespace mls {

// What the extension was compiled with.
struct MpiBuild {
  std::string flavour;  // "openmpi" or "mpich"
  std::string library;  // of the headers, such as "Open MPI 5.0.11"
  std::size_t handle_size;
};
MpiBuild mpi_build();

// comm_address: where an MPI_Comm is stored, on which errors return; it must outlive the transport.
std::unique_ptr<Transport> mpi_transport(std::uintptr_t comm_address);

}  // namespace mls
