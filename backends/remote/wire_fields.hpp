// The fields of every struct of the backend interface that crosses to the worker, in order. A new
// op is one entry. The bindings name every field, so a field that is added to a struct
// and forgotten here does not compile.
#pragma once

#include <concepts>
#include <type_traits>

#include "backends/backend.hpp"
#include "backends/remote/wire.hpp"

namespace tessera::remote {

// T or const T: one list serves encoder and decoder.
template <class T, class U>
concept Is = std::same_as<std::remove_const_t<T>, U>;

template <>
inline constexpr uint32_t kEnumCount<Status> = kStatusCount;
template <>
inline constexpr uint32_t kEnumCount<DeviceKind> = 4;
template <>
inline constexpr uint32_t kEnumCount<MathMode> = 2;
template <>
inline constexpr uint32_t kEnumCount<DType> = kDTypeCount;
template <>
inline constexpr uint32_t kEnumCount<KvType> = 3;
template <>
inline constexpr uint32_t kEnumCount<RopePairing> = 2;
template <>
inline constexpr uint32_t kEnumCount<KeyForm> = 2;
template <>
inline constexpr uint32_t kEnumCount<Activation> = 1;

// ---- backend.hpp

template <class A>
void fields(A& a, Is<DeviceInfo> auto& v) {
  auto& [id, name, kind, total, free, available, reason] = v;
  a(id, name, kind, total, free, available, reason);
}
template <class A>
void fields(A& a, Is<WeightDesc> auto& v) {
  auto& [name, type, rows, columns, uses] = v;
  a(name, type, rows, columns, uses);
}
template <class A>
void fields(A& a, Is<LayerGroup> auto& v) {
  auto& [layers, kv_heads, head_dim, window] = v;
  a(layers, kv_heads, head_dim, window);
}
template <class A>
void fields(A& a, Is<KvLayout> auto& v) {
  auto& [type, page_slots, groups] = v;
  a(type, page_slots, groups);
}
template <class A>
void fields(A& a, Is<ProgramOptions> auto& v) {
  auto& [max_rows, threads] = v;
  a(max_rows, threads);
}

// ---- graph.hpp

template <class A>
void fields(A& a, Is<Rope> auto& v) {
  auto& [frequencies, magnitude, pairing] = v;
  a(frequencies, magnitude, pairing);
}
template <class A>
void fields(A& a, Is<AttentionShape> auto& v) {
  auto& [layer, heads, kv_heads, head_dim, rope, form] = v;
  a(layer, heads, kv_heads, head_dim, rope, form);
}
template <class A>
void fields(A& a, Is<Embed> auto& v) {
  auto& [table, scale, out] = v;
  a(table, scale, out);
}
template <class A>
void fields(A& a, Is<NormQkv> auto& v) {
  auto& [in, norm, wq, wk, wv, epsilon, shape, out] = v;
  a(in, norm, wq, wk, wv, epsilon, shape, out);
}
template <class A>
void fields(A& a, Is<SpanAttention> auto& v) {
  auto& [in, scale, shape, out, log_sum] = v;
  a(in, scale, shape, out, log_sum);
}
template <class A>
void fields(A& a, Is<AttentionMass> auto& v) {
  auto& [in, log_sum, scale, shape] = v;
  a(in, log_sum, scale, shape);
}
template <class A>
void fields(A& a, Is<LinearResidual> auto& v) {
  auto& [in, w, residual, out] = v;
  a(in, w, residual, out);
}
template <class A>
void fields(A& a, Is<NormGatedFfn> auto& v) {
  auto& [in, norm, gate, up, epsilon, activation, out] = v;
  a(in, norm, gate, up, epsilon, activation, out);
}
template <class A>
void fields(A& a, Is<Logits> auto& v) {
  auto& [in, norm, head, epsilon] = v;
  a(in, norm, head, epsilon);
}
template <class A>
void fields(A& a, Is<Graph> auto& v) {
  auto& [widths, ropes, ops, vocabulary] = v;
  a(widths, ropes, ops, vocabulary);
}

// ---- step.hpp

template <class A>
void fields(A& a, Is<SpanEntry> auto& v) {
  auto& [entry, slots, logical, frame, position] = v;
  a(entry, slots, logical, frame, position);
}
template <class A>
void fields(A& a, Is<SequenceEntry> auto& v) {
  auto& [first, count] = v;
  a(first, count);
}
template <class A>
void fields(A& a, Is<LogitAdjustment> auto& v) {
  auto& [token, penalty, subtract] = v;
  a(token, penalty, subtract);
}
template <class A>
void fields(A& a, Is<LogitsRequest> auto& v) {
  auto& [row, top_k, full, temperature, first, count, mask] = v;
  a(row, top_k, full, temperature, first, count, mask);
}
template <class A>
void fields(A& a, Is<MassRequest> auto& v) {
  auto& [sequence, first_row, rows, first_layer] = v;
  a(sequence, first_row, rows, first_layer);
}
template <class A>
void fields(A& a, Is<Step> auto& v) {
  auto& [tokens, positions, keys, sequence_of, entries, slots, sequences, spans, tables, masks,
         slot_positions, logits, adjustments, token_masks, mass_requests] = v;
  a(tokens, positions, keys, sequence_of, entries, slots, sequences, spans, tables, masks,
    slot_positions, logits, adjustments, token_masks, mass_requests);
}
template <class A>
void fields(A& a, Is<TokenLogit> auto& v) {
  auto& [token, logit] = v;
  a(token, logit);
}
template <class A>
void fields(A& a, Is<LogitsResult> auto& v) {
  auto& [top, log_sum_exp, weight_sum, full] = v;
  a(top, log_sum_exp, weight_sum, full);
}
template <class A>
void fields(A& a, Is<StepResult> auto& v) {
  auto& [logits, masses, stopped] = v;
  a(logits, masses, stopped);
}

}  // namespace tessera::remote
