// Of programs that have no other.
#include <gtest/gtest.h>

#include "tests/unit/engine/fixture.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  tessera::test::EngineTest::release_models();
  return result;
}
