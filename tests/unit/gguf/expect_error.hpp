// Checks an Error's status and that its message names what it should.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backends/error.hpp"

namespace tessera::test {

template <typename Call>
void expect_error(Status status, const std::vector<std::string>& named, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.status()), static_cast<int>(status)) << message;
    for (const std::string& part : named) {
      EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" not in: " << message;
    }
    return;
  }
  ADD_FAILURE() << "no Error";
}

}  // namespace tessera::test
