// The engine thread goes on whatever happens: what may throw runs through `attempt`.
#pragma once

#include <exception>
#include <new>
#include <string_view>

#include "backends/error.hpp"

namespace tessera::engine {

// Runs `action`. Where it throws, `failed(Status, std::string_view message)` is told, which must
// not throw; the message is valid during that call. Allocates nothing of its own.
template <typename Action, typename Failed>
void attempt(Action&& action, Failed&& failed) noexcept {
  try {
    action();
  } catch (const Error& error) {
    failed(error.status(), std::string_view(error.what()));
  } catch (const std::bad_alloc&) {
    failed(Status::out_of_host_memory, std::string_view("out of host memory"));
  } catch (const std::exception& error) {
    failed(Status::internal, std::string_view(error.what()));
  } catch (...) {
    failed(Status::internal, std::string_view("an exception of unknown type"));
  }
}

}  // namespace tessera::engine
