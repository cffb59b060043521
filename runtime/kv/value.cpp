#include "runtime/kv/value.hpp"

namespace tessera::kv {

void ValueQueue::put(size_t place, Valued* entry) noexcept {
  heap_[place] = entry;
  entry->place = place;
}

void ValueQueue::rise(size_t place, Valued* entry) noexcept {
  while (place > 0) {
    const size_t above = (place - 1) / 2;
    if (!ValueRule::before(*entry, *heap_[above])) break;
    put(place, heap_[above]);
    place = above;
  }
  put(place, entry);
}

void ValueQueue::sink(size_t place, Valued* entry) noexcept {
  while (true) {
    size_t below = 2 * place + 1;
    if (below >= heap_.size()) break;
    if (below + 1 < heap_.size() && ValueRule::before(*heap_[below + 1], *heap_[below])) ++below;
    if (!ValueRule::before(*heap_[below], *entry)) break;
    put(place, heap_[below]);
    place = below;
  }
  put(place, entry);
}

void ValueQueue::push(Valued& entry) noexcept {
  entry.value = ValueRule::value(entry);
  heap_.push_back(&entry);  // there is room
  rise(heap_.size() - 1, &entry);
}

void ValueQueue::remove(Valued& entry) noexcept {
  const size_t place = entry.place;
  entry.place = Valued::kNowhere;
  Valued* last = heap_.back();
  heap_.pop_back();
  if (last == &entry) return;
  const bool rises = place > 0 && ValueRule::before(*last, *heap_[(place - 1) / 2]);
  rises ? rise(place, last) : sink(place, last);
}

}  // namespace tessera::kv
