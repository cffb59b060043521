#include "runtime/engine/neutral_primer.hpp"

namespace tessera::engine {

std::string_view neutral_primer() {
  return R"(The harbour office keeps a small archive of notes about the town. Most of them describe ordinary
things: when the ferry was repaired, how the market was moved to the square, which families
planted the trees along the canal. The notes are not written in one style. Some are letters, some
are lists, and a few are reports with headings and numbers.

A typical report begins with its purpose. It then explains what was measured, where the figures
came from and how they should be read. For example, one table lists the rainfall of each month and
compares it with the average of the ten years before. The text below the table points out that two
values are missing because the instrument was being cleaned, and that the totals are therefore
estimates.

1. Open the cover and check that the filter is dry.
2. Turn the valve to the left until it stops.
3. Wait for about five minutes before you read the pressure.

If the reading is higher than expected, close the valve again and write down the time. Do not try
to correct the setting while the pump is running. Further details can be found in the manual, in
the section on maintenance.

Letters are more personal. "We arrived on Tuesday," says one of them, "and the house was colder
than we had hoped, but the neighbours brought soup and wood." Another asks whether the meeting
could be held a week later, since half of the members would be away. The answer, written on the
back, is a short yes.

There are also pages about machines and programs. They explain which options a command accepts,
what it returns, and what happens when a file does not exist. A note at the end says that the
default value is usually right, that larger values need more memory, and that the behaviour may
change in a later version. Whoever reads these pages today will find that many answers are still
the same: begin with the simple case, keep a record of every change, and ask when something is
not clear.
)";
}

}  // namespace tessera::engine
