// Which x86 instruction sets a program may use here.
#pragma once

#include <string>
#include <vector>

namespace tessera::bench {

// Names as in "avx2", "avx512vnni". Each was tried by executing one of its instructions in a child
// process: a processor may list what the operating system or the hypervisor does not let run.
// Empty on other processors. Starts processes: call it before there are threads.
std::vector<std::string> usable_instruction_sets();

}  // namespace tessera::bench
