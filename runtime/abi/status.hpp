// From exceptions to tsr_status: every entry point runs its body through `guarded`.
#pragma once

#include <exception>
#include <new>
#include <string_view>

#include "backends/error.hpp"
#include "include/tessera/tessera.h"

namespace tessera::abi {

// The calling thread's message; kept in fixed storage, cut at a character boundary.
void set_message(std::string_view message) noexcept;
void clear_message() noexcept;
const char* message() noexcept;

tsr_status report(Status status, std::string_view message) noexcept;

template <typename Body>
tsr_status guarded(Body&& body) noexcept {
  clear_message();
  try {
    body();
    return TSR_OK;
  } catch (const Error& error) {
    return report(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return report(Status::out_of_host_memory, "out of host memory");
  } catch (const std::exception& error) {
    return report(Status::internal, error.what());
  } catch (...) {
    return report(Status::internal, "an exception of unknown type");
  }
}

}  // namespace tessera::abi
