// The tiny random model as a file, and a private folder for the files of one test program.
#pragma once

#include <string>

namespace tsr_test {

// Path of a file of that name in a folder which is removed when the program ends.
std::string scratch(const std::string& name);

// The tiny model, written at the first call. vocabulary 320, context 1024, ChatML, 2 layers.
const std::string& model_path();

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);

}  // namespace tsr_test
