// Speed of the CPU's kernels, one thread unless the name says otherwise.
//   linear/TYPE/ISA/rows      one weight matrix [1536][768] times `rows` activation rows;
//                             GB/s of weight blocks, GMAC/s
//   attention/TYPE/ISA/slots  one decoded token (rows:1) or a slice of prefill (rows:64) over a
//                             context of `slots`, 9 query heads, 3 KV heads of 64; GMAC/s
//   step/THREADS/rows         all ops of a model of the shape of SmolLM2-135M in Q4_1, logits of
//                             the last row; tokens/s, GMAC/s, GB/s of weights
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/cpu.hpp"
#include "backends/cpu/isa.hpp"
#include "backends/cpu/matmul.hpp"

namespace tessera {
namespace {

// Blocks whose bytes, read as half-precision scales, are small and finite.
std::unique_ptr<Weight> random_weight(Backend* backend, DType type, uint32_t rows,
                                      uint32_t columns) {
  const WeightDesc desc = {"w", type, rows, columns, kUseMatmul};
  uint32_t state = rows * 31 + columns;
  const WeightReader reader = [&](uint64_t, void* out, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; ++i) {
      state = state * 1664525 + 1013904223;
      static_cast<uint8_t*>(out)[i] = static_cast<uint8_t>(state >> 24 & 0x1f);
    }
  };
  if (backend) return backend->load_weight(desc, reader);
  static cpu::Arena arena;
  return std::make_unique<cpu::CpuWeight>(desc, reader, MathMode::fast, arena);
}

void rates(benchmark::State& state, double macs, double bytes) {
  const double runs = static_cast<double>(state.iterations());
  state.counters["GMAC/s"] = benchmark::Counter(macs * runs * 1e-9, benchmark::Counter::kIsRate);
  if (bytes > 0) {
    state.counters["GB/s"] = benchmark::Counter(bytes * runs * 1e-9, benchmark::Counter::kIsRate);
  }
}

void linear(benchmark::State& state, const cpu::Kernels* kernels, DType type, uint32_t rows) {
  constexpr uint32_t kOutputs = 1536, kInputs = 768;
  const auto weight = random_weight(nullptr, type, kOutputs, kInputs);
  const cpu::CpuWeight& w = static_cast<const cpu::CpuWeight&>(*weight);
  const cpu::Linear linear(w, *kernels, 1);
  std::vector<float> x(size_t{rows} * kInputs, 0.5f), out(size_t{rows} * kOutputs);
  std::vector<float> tile(linear.tile_floats());
  const cpu::Matrix to = {out.data(), kOutputs, kOutputs};
  const cpu::RowQuantiser quantiser(*kernels, {linear.form()}, kInputs);
  std::vector<float> quantised(quantiser.floats(rows));
  cpu::PreparedRows in;
  in.x = {x.data(), kInputs, kInputs};
  quantiser.place(quantised.data(), rows, in);
  for (uint32_t r = 0; r < rows; ++r) quantiser.write(in, r);
  for (auto _ : state) {
    for (uint32_t i = 0; i < linear.items(); ++i) {
      linear.compute(i, in, rows, nullptr, to, tile.data());
    }
    benchmark::ClobberMemory();
  }
  rates(state, 1.0 * rows * kOutputs * kInputs, static_cast<double>(w.device_bytes()));
}

// The shape of a llama-like model; `layers` may be 1 to look at one.
struct Shape {
  uint32_t layers = 30, width = 576, heads = 9, kv_heads = 3, head_dim = 64, ffn = 1536;
  uint32_t vocabulary = 49152;
};

struct Model {
  Model(Backend& backend, const Shape& s, KvType kv, uint32_t slots, uint32_t rows,
        uint32_t threads) {
    const auto add = [&](DType type, uint32_t outputs, uint32_t inputs) {
      weights.push_back(random_weight(&backend, type, outputs, inputs));
      return weights.back().get();
    };
    const auto norm = [&] { return add(DType::f16, 1, s.width); };
    Graph graph;
    graph.vocabulary = s.vocabulary;
    graph.ropes.push_back({std::vector<double>(s.head_dim / 2, 0.01)});
    const Value x = graph.add_value(s.width), q = graph.add_value(s.heads * s.head_dim);
    const Value a = graph.add_value(s.heads * s.head_dim), h = graph.add_value(s.ffn);
    const Weight* table = add(DType::q8_0, s.vocabulary, s.width);
    std::vector<uint32_t> layers;
    graph.ops.push_back(Embed{table, 1, x});
    for (uint32_t l = 0; l < s.layers; ++l) {
      layers.push_back(l);
      const AttentionShape shape = {l, s.heads, s.kv_heads, s.head_dim, 0, KeyForm::local};
      const uint32_t width_q = s.heads * s.head_dim, width_kv = s.kv_heads * s.head_dim;
      graph.ops.push_back(NormQkv{x, norm(), add(DType::q4_1, width_q, s.width),
                                  add(DType::q4_1, width_kv, s.width),
                                  add(DType::q4_1, width_kv, s.width), 1e-5f, shape, q});
      graph.ops.push_back(SpanAttention{q, 0.125f, shape, a});
      graph.ops.push_back(LinearResidual{a, add(DType::q4_1, s.width, width_q), x, x});
      graph.ops.push_back(NormGatedFfn{x, norm(), add(DType::q4_1, s.ffn, s.width),
                                       add(DType::q4_1, s.ffn, s.width), 1e-5f, Activation::silu,
                                       h});
      graph.ops.push_back(LinearResidual{h, add(DType::q4_1, s.width, s.ffn), x, x});
    }
    graph.ops.push_back(Logits{x, norm(), table, 1e-5f});
    const KvLayout layout = {kv, 16, {{layers, s.kv_heads, s.head_dim, 0}}};
    const uint32_t page_count = (slots + 15) / 16;
    pages = backend.create_pages(layout, std::vector<uint32_t>{page_count});
    program = backend.compile(graph, *pages, {rows, threads});

    // The last `rows` of `slots` tokens.
    step.sequences = {{0, 1}};
    step.spans = {{0, slots, 0, 0, kNoPositions}};
    step.page_tables.resize(1);
    for (uint32_t i = 0; i < page_count; ++i) step.page_tables[0].push_back(i);
    step.masks.assign(page_count, ~uint64_t{0});
    for (uint32_t slot = slots - rows; slot < slots; ++slot) {
      step.tokens.push_back(static_cast<int32_t>(slot % s.vocabulary));
      step.positions.push_back(static_cast<int32_t>(slot));
      step.key_positions.push_back(static_cast<int32_t>(slot));
      step.sequence_of.push_back(0);
      step.store_entries.push_back(slot / 16);
      step.store_slots.push_back(slot % 16);
    }
    step.logits = {{.row = rows - 1, .top_k = 40}};
  }

  void run() {
    StepResult result;
    program->plan(step);
    program->submit();
    program->wait(result);
    benchmark::DoNotOptimize(result.logits[0].log_sum_exp);
  }

  double weight_bytes() const {
    double bytes = 0;
    for (const auto& w : weights) bytes += static_cast<double>(w->device_bytes());
    return bytes;
  }

  std::vector<std::unique_ptr<Weight>> weights;
  std::unique_ptr<PageMemory> pages;
  std::unique_ptr<Program> program;
  Step step;
};

// 30 layers of attention with next to nothing around it.
void attention(benchmark::State& state, const char* isa, KvType type, uint32_t slots,
               uint32_t rows) {
  const auto backend = cpu::open_with_isa(isa, {});
  Shape shape;
  shape.width = 32;
  shape.ffn = 32;
  shape.vocabulary = 64;
  Model model(*backend, shape, type, slots, rows, 1);
  for (auto _ : state) model.run();
  const double pairs = 1.0 * rows * (slots - (rows - 1) / 2.0);
  rates(state, pairs * shape.layers * shape.heads * shape.head_dim * 2, 0);
}

void step(benchmark::State& state, uint32_t threads, uint32_t rows) {
  const auto backend = cpu::open_with_isa(cpu::best_kernels().name, {});
  const Shape s;
  Model model(*backend, s, KvType::f16, 512, rows, threads);
  for (auto _ : state) model.run();
  const double layer =
      1.0 * s.width * (2 * s.heads + 2 * s.kv_heads) * s.head_dim + 3.0 * s.width * s.ffn;
  rates(state, rows * layer * s.layers + 1.0 * s.width * s.vocabulary, model.weight_bytes());
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * rows,
                                                  benchmark::Counter::kIsRate);
}

void add_benchmarks() {
  const auto add = [](const std::string& name, auto run) {
    benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMillisecond);
  };
  constexpr const char* kKv[] = {"F32", "F16", "Q8_0"};
  for (const cpu::Isa& isa : cpu::isas()) {
    if (!isa.supported()) continue;
    const std::string name = isa.name;
    for (size_t t = 0; t < kDTypeCount; ++t) {
      for (const uint32_t rows : {1u, 8u, 256u}) {
        add("linear/" + std::string(kDTypeInfo[t].name) + "/" + name + "/" + std::to_string(rows),
            [=, kernels = &isa.kernels()](benchmark::State& state) {
              linear(state, kernels, static_cast<DType>(t), rows);
            });
      }
    }
    for (size_t t = 0; t < 3; ++t) {
      for (const uint32_t rows : {1u, 64u}) {
        add("attention/" + std::string(kKv[t]) + "/" + name + "/2048/rows:" + std::to_string(rows),
            [=, isa_name = isa.name](benchmark::State& state) {
              attention(state, isa_name, static_cast<KvType>(t), 2048, rows);
            });
      }
    }
  }
  for (const uint32_t threads : {1u, 2u}) {
    for (const uint32_t rows : {1u, 4u, 16u, 256u}) {
      add("step/" + std::to_string(threads) + "/" + std::to_string(rows),
          [=](benchmark::State& state) { step(state, threads, rows); });
    }
  }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::add_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
