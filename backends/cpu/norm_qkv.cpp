// x = rms_norm(in) * norm; q = x Wq^T goes to out; k = x Wk^T, rotated by the row's key position,
// and v = x Wv^T go to the row's slot of the pages.
#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

class NormQkvOp final : public CompiledOp {
 public:
  NormQkvOp(const NormQkv& op, Compiler& c)
      : kernels_(c.kernels),
        pages_(c.pages),
        shape_(checked(op, c)),
        place_(c.pages.place(shape_.layer)),
        type_(c.pages.layout().type),
        pairs_(static_cast<uint32_t>(c.graph.ropes[shape_.rope].frequencies.size())),
        halves_(c.graph.ropes[shape_.rope].pairing == RopePairing::halves),
        in_(c.values[op.in]),
        out_(c.values[op.out]),
        kv_width_(shape_.kv_heads * shape_.head_dim),
        q_(c.weight(op.wq, "wq", out_.width, in_.width), c.kernels, c.options.threads),
        k_(c.weight(op.wk, "wk", kv_width_, in_.width), c.kernels, c.options.threads),
        v_(c.weight(op.wv, "wv", kv_width_, in_.width), c.kernels, c.options.threads),
        rows_(in_, c.vector(op.norm, "norm", in_.width), op.epsilon,
              {q_.form(), k_.form(), v_.form()}, c) {
    c.need_shared(rows_.shared_floats() + 2 * uint64_t{c.options.max_rows} * kv_width_);
    c.need_local(rows_.local_floats() +
                 std::max({q_.tile_floats(), k_.tile_floats(), v_.tile_floats()}));
    RopeUse& use = c.rope_uses[shape_.rope];
    (shape_.key_form == KeyForm::local ? use.local : use.unrotated) = true;
  }

  void run(Worker& worker) const override {
    const PreparedRows x = rows_.compute(worker);
    const uint32_t rows = worker.plan.rows();
    float* tile = worker.local + rows_.local_floats();
    const Matrix k = {worker.shared + rows_.shared_floats(), 2 * size_t{kv_width_}, kv_width_};
    const Matrix v = {k.data + kv_width_, k.stride, kv_width_};
    worker.team.parallel(q_.items() + k_.items() + v_.items(), [&](uint32_t item) {
      if (item < q_.items()) return q_.compute(item, x, rows, nullptr, out_, tile);
      item -= q_.items();
      if (item < k_.items()) return k_.compute(item, x, rows, nullptr, k, tile);
      v_.compute(item - k_.items(), x, rows, nullptr, v, tile);
    });
    worker.team.parallel(rows, [&](uint32_t r) { store(worker.plan, r, k.row(r), v.row(r)); });
  }

 private:
  static const AttentionShape& checked(const NormQkv& op, Compiler& c) {
    c.check_attention(op.shape, c.graph.widths[op.out]);
    c.check_positive(op.epsilon, "epsilon");
    if (op.in == op.out) c.fail_at("out", "is the same value as `in`");
    return op.shape;
  }

  // Rotates the keys of a row in place and stores its heads.
  void store(const Plan& plan, uint32_t r, float* k, const float* v) const {
    const Step& step = plan.step();
    const uint32_t page = step.page_tables[place_.group][step.store_entries[r]];
    const uint64_t head = head_bytes(type_, shape_.head_dim);
    const uint32_t slots = plan.page_slots(), slot = step.store_slots[r];
    uint8_t* keys = pages_.page(place_.group, page) + place_.offset;
    uint8_t* values = keys + shape_.kv_heads * slots * head;
    const StepRotations& rotations = plan.rotations(shape_.rope);
    const auto store_key = kernels_.store_key[static_cast<size_t>(type_)];
    const auto store_value = kernels_.store_value[static_cast<size_t>(type_)];
    for (uint32_t h = 0; h < shape_.kv_heads; ++h) {
      float* key = k + size_t{h} * shape_.head_dim;
      if (shape_.key_form == KeyForm::local) {
        const float* angles = rotations.set[rotations.of_key[r]];
        kernels_.rotate(key, angles, angles + pairs_, pairs_, halves_);
      }
      store_key(key, shape_.head_dim, keys + h * slots * head, slots, slot);
      store_value(v + size_t{h} * shape_.head_dim, shape_.head_dim, values + h * slots * head,
                  slots, slot);
    }
  }

  const Kernels& kernels_;
  CpuPages& pages_;
  AttentionShape shape_;
  CpuPages::LayerPlace place_;
  KvType type_;
  uint32_t pairs_;
  bool halves_;
  Matrix in_, out_;
  uint32_t kv_width_;
  Linear q_, k_, v_;
  RowPreparation rows_;
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const NormQkv& op, Compiler& c) {
  return std::make_unique<NormQkvOp>(op, c);
}

}  // namespace tessera::cpu
