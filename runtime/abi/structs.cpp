// The _init calls. The size given beside each struct is that of its version 1, for ever.
#include "runtime/abi/structs.hpp"

#include "runtime/abi/arguments.hpp"

using tessera::abi::init_struct;

#define TSR_DEFINE_INIT(type)                                                               \
  tsr_status tsr_##type##_init(tsr_##type* structure, uint32_t struct_size) {               \
    return init_struct(structure, struct_size, tessera::abi::version_1<tsr_##type>, #type); \
  }

TSR_DEFINE_INIT(runtime_options)
TSR_DEFINE_INIT(device_info)
TSR_DEFINE_INIT(model_options)
TSR_DEFINE_INIT(model_info)
TSR_DEFINE_INIT(message)
TSR_DEFINE_INIT(context_options)
TSR_DEFINE_INIT(metrics)
TSR_DEFINE_INIT(chunk_options)
TSR_DEFINE_INIT(chunk_info)
TSR_DEFINE_INIT(session_options)
TSR_DEFINE_INIT(generate_options)
TSR_DEFINE_INIT(event)
TSR_DEFINE_INIT(session_info)
TSR_DEFINE_INIT(report)
TSR_DEFINE_INIT(gate_options)
TSR_DEFINE_INIT(gate_result)
