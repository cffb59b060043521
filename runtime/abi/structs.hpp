// Sizes of version 1 of every public struct. They never change: a caller compiled against the first
// release keeps working.
#pragma once

#include <cstdint>

#include "include/tessera/tessera.h"

namespace tessera::abi {

template <typename T>
inline constexpr uint32_t version_1 = 0;

template <>
inline constexpr uint32_t version_1<tsr_runtime_options> = 24;
template <>
inline constexpr uint32_t version_1<tsr_device_info> = 480;
template <>
inline constexpr uint32_t version_1<tsr_model_options> = 40;
template <>
inline constexpr uint32_t version_1<tsr_model_info> = 744;
template <>
inline constexpr uint32_t version_1<tsr_message> = 24;
template <>
inline constexpr uint32_t version_1<tsr_context_options> = 64;
template <>
inline constexpr uint32_t version_1<tsr_metrics> = 128;
template <>
inline constexpr uint32_t version_1<tsr_chunk_options> = 16;
template <>
inline constexpr uint32_t version_1<tsr_chunk_info> = 48;
template <>
inline constexpr uint32_t version_1<tsr_session_options> = 24;
template <>
inline constexpr uint32_t version_1<tsr_generate_options> = 56;
template <>
inline constexpr uint32_t version_1<tsr_event> = 56;
template <>
inline constexpr uint32_t version_1<tsr_session_info> = 32;
template <>
inline constexpr uint32_t version_1<tsr_report> = 112;
template <>
inline constexpr uint32_t version_1<tsr_gate_options> = 64;
template <>
inline constexpr uint32_t version_1<tsr_gate_result> = 56;

}  // namespace tessera::abi
