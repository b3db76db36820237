#include "emu/memory/shadow.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "emu/config.h"

namespace emu {
namespace {

constexpr uint32_t kThreadBits = 10, kBytesBits = 4, kWarpBits = 5;
constexpr uint32_t kWriterInstr = (1u << 18) - 1, kReaderInstr = (1u << 23) - 1;

}  // namespace

Actor::Actor(Warp& w, Strength how, ptx::Space where)
    : warp(w),
      launch(*w.block->launch),
      block(static_cast<uint32_t>(w.block->linear)),
      index(w.index),
      epoch(w.clock.epoch),
      base(w.block->clock.base),
      common(w.clock.converged ? std::max(w.clock.common, w.block->clock.base) : w.block->clock.base),
      instr(w.at),
      strength(how),
      space(where),
      races(config().races) {}

Actor::Actor(Warp& w, Strength how, ptx::Space where, Mask lanes, const uint64_t* at, uint32_t size,
             const std::byte* from, uint32_t apart)
    : Actor(w, how, where) {
  active = lanes;
  address = at;
  bytes = size;
  values = from;
  stride = apart;
}

Shadow::Shadow(uint32_t words, bool single_block)
    : words_(words), single_block_(single_block), written_((size_t{words} * 4 + 63) / 64, 0) {
  if (single_block) last_read_.reset(new uint32_t[words]());
}

void Shadow::clear_races() {
  if (has_writers_) std::memset(writers_.get(), 0, sizeof(Writer) * words_);
  for (int k = 0; k < planes_; k++) std::memset(readers_[k].get(), 0, sizeof(Reader) * words_);
  if (last_read_ && planes_ != 0) std::memset(last_read_.get(), 0, sizeof(uint32_t) * words_);
  has_writers_ = false;
  planes_ = 0;
  serial_ = 0;
  if (!cells_.empty()) cells_.clear();
  if (!published_.empty()) published_.clear();
}

void Shadow::clear_written() { std::fill(written_.begin(), written_.end(), 0); }

Touch Shadow::touch_of(const Writer& w) {
  Touch t;
  t.block = w.block;
  t.warp = static_cast<uint16_t>((w.by & 1023) >> 5);
  t.lanes = Mask{1} << (w.by & 31);
  t.bytes = static_cast<uint8_t>(w.by >> kThreadBits & 15);
  t.instr = w.by >> (kThreadBits + kBytesBits);
  t.epoch = w.epoch;
  t.is_write = true;
  return t;
}

Touch Shadow::touch_of(const Reader& r) {
  Touch t;
  t.block = r.block;
  t.warp = static_cast<uint16_t>(r.by & 31);
  t.lanes = r.lanes;
  t.bytes = static_cast<uint8_t>(r.by >> kWarpBits & 15);
  t.instr = r.by >> (kWarpBits + kBytesBits);
  t.epoch = r.epoch;
  return t;
}

Shadow::Reader* Shadow::make_plane(int k) {
  for (; planes_ <= k; planes_++) {
    if (!readers_[planes_]) readers_[planes_].reset(new Reader[words_]());
  }
  return readers_[k].get();
}

void Shadow::need_writers() {
  if (!writers_) writers_.reset(new Writer[words_]());
  has_writers_ = true;
}

void Shadow::make_cell(uint32_t word) {
  need_writers();
  Writer& w = writers_[word];
  Cell& cell = cells_[word];
  if (w.epoch != 0) cell.add(touch_of(w));
  for (int k = 0; k < planes_; k++) {
    Reader& r = readers_[k][word];
    if (r.epoch != 0) cell.add(touch_of(r));
    r = Reader{};
  }
  w.epoch = kCell;
}

bool Shadow::touch_cell(const Actor& now, int lane, uint32_t word, uint32_t bytes, bool is_write, Touch* conflict) {
  const auto found = cells_.find(word);
  const bool bad = found->second.touch(now, lane, bytes, is_write, conflict);
  if (is_write) {
    writers_[word].serial = ++serial_;
    writers_[word].block = now.block;
    writers_[word].by = (now.index << 5 | static_cast<uint32_t>(lane)) | bytes << kThreadBits |
                        std::min(now.instr, kWriterInstr) << (kThreadBits + kBytesBits);
    if (found->second.is_plain()) {
      writers_[word].epoch = now.epoch;
      cells_.erase(found);
    }
  }
  return bad;
}

void Shadow::add_reader(const Actor& now, int lane, uint32_t word, uint32_t bytes) {
  const Mask bit = Mask{1} << lane;
  const uint32_t key = now.index | bytes << kWarpBits;
  const uint32_t by = key | std::min(now.instr, kReaderInstr) << (kWarpBits + kBytesBits);
  if (last_read_) last_read_[word] = std::max(last_read_[word], now.epoch);
  const int first = home(now), most = static_cast<int>(most_mask());
  for (int turn = 0; turn <= most; turn++) {
    Reader& r = plane((first + turn) & most)[word];
    if (r.block == now.block && (r.by & kReaderKey) == key && r.epoch == now.epoch) {
      r.lanes |= bit;
      return;
    }
    // An earlier read of the same warp matters no more where all its lanes are ordered before this one: who is ordered
    // after this read is ordered after them.
    if (is_past(r.block, r.epoch, now) ||
        (r.block == now.block && (r.by & 31) == now.index && ((r.by >> kWarpBits & 15) & ~bytes) == 0 &&
         (r.epoch < now.common || (r.lanes & ~bit) == 0))) {
      r = Reader{now.block, now.epoch, bit, by};
      return;
    }
  }
  readers_[first][word] = Reader{now.block, now.epoch, bit, by};
}

bool Shadow::read_word(const Actor& now, int lane, uint32_t word, uint32_t bytes, Touch* conflict) {
  bool bad = false;
  if (has_writers_) {
    const Writer& w = writers_[word];
    if (w.epoch == kCell) return touch_cell(now, lane, word, bytes, false, conflict);
    if (!is_past(w.block, w.epoch, now)) {
      *conflict = touch_of(w);
      if (w.epoch == kInFlight) return true;
      bad = in_conflict(*conflict, now, lane, bytes, false);
    }
  }
  if (now.strength != Strength::kWeak) {
    make_cell(word);
    Touch ignored;
    return touch_cell(now, lane, word, bytes, false, bad ? &ignored : conflict) || bad;
  }
  add_reader(now, lane, word, bytes);
  return bad;
}

bool Shadow::write_word(const Actor& now, int lane, uint32_t word, uint32_t bytes, Touch* conflict) {
  need_writers();
  Writer& w = writers_[word];
  if (w.epoch == kCell) return touch_cell(now, lane, word, bytes, true, conflict);
  if (w.epoch == kInFlight) {
    *conflict = touch_of(w);
    return true;
  }
  if (now.strength != Strength::kWeak) {
    make_cell(word);
    return touch_cell(now, lane, word, bytes, true, conflict);
  }
  const uint32_t thread = now.index << 5 | static_cast<uint32_t>(lane);
  const bool fresh = is_past(w.block, w.epoch, now);
  uint32_t whole = bytes;
  bool bad = false;
  if (!fresh) {
    const Touch before = touch_of(w);
    if (in_conflict(before, now, lane, bytes, true)) {
      *conflict = before;
      bad = true;
    } else if ((before.bytes & ~bytes) != 0) {
      if (w.block != now.block || (w.by & 1023) != thread || w.epoch != now.epoch) {
        make_cell(word);
        return touch_cell(now, lane, word, bytes, true, conflict);
      }
      whole |= before.bytes;
    }
  }
  if (!last_read_ || last_read_[word] >= now.base) {
    // Readers of these bytes are ordered before this write, or are reported: behind it only those of other bytes
    // matter.
    for (int k = 0; k < planes_; k++) {
      Reader& r = readers_[k][word];
      if (r.epoch == 0) continue;
      if (!is_past(r.block, r.epoch, now)) {
        const Touch before = touch_of(r);
        if (!bad && in_conflict(before, now, lane, bytes, true)) {
          *conflict = before;
          bad = true;
        }
        if ((before.bytes & ~bytes) != 0) continue;
      }
      r.epoch = 0;
    }
  }
  w.block = now.block;
  w.epoch = now.epoch;
  w.by = thread | whole << kThreadBits | std::min(now.instr, kWriterInstr) << (kThreadBits + kBytesBits);
  w.serial = ++serial_;
  return bad;
}

Shadow::Reading Shadow::reading(const Actor& now) {
  Reading r;
  r.writers = has_writers_ ? writers_.get() : nullptr;
  r.readers = plane(home(now));
  r.key = now.index | 15u << kWarpBits;
  r.by = r.key | std::min(now.instr, kReaderInstr) << (kWarpBits + kBytesBits);
  return r;
}

template <bool (Shadow::*touch)(const Actor&, int, uint32_t, uint32_t, Touch*)>
bool Shadow::touch_words(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t bytes, Touch* conflict,
                         uint32_t* word_found) {
  bool bad = false;
  for (uint32_t k = 0; k < count; k++) {
    Touch t;
    if ((this->*touch)(now, lane, word + k, bytes, &t) && !bad) {
      bad = true;
      *conflict = t;
      *word_found = word + k;
    }
  }
  return bad;
}

bool Shadow::read(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t bytes, Touch* conflict,
                  uint32_t* word_found) {
  return touch_words<&Shadow::read_word>(now, lane, word, count, bytes, conflict, word_found);
}

bool Shadow::write(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t bytes, Touch* conflict,
                   uint32_t* word_found) {
  return touch_words<&Shadow::write_word>(now, lane, word, count, bytes, conflict, word_found);
}

void Shadow::begin_flight(const Actor& now, int lane, uint32_t word, uint32_t count) {
  need_writers();
  const uint32_t by = (now.index << 5 | static_cast<uint32_t>(lane)) | 15u << kThreadBits |
                      std::min(now.instr, kWriterInstr) << (kThreadBits + kBytesBits);
  for (uint32_t k = 0; k < count; k++) {
    if (writers_[word + k].epoch == kCell) cells_.erase(word + k);
    writers_[word + k] = Writer{now.block, kInFlight, by, ++serial_};
  }
}

void Shadow::end_flight(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t instr) {
  const uint32_t thread = now.index << 5 | static_cast<uint32_t>(lane);
  for (uint32_t k = 0; k < count; k++) {
    Writer& w = writers_[word + k];
    if (w.epoch != kInFlight || (w.by & 1023) != thread) continue;
    w.epoch = now.epoch;
    w.by = thread | 15u << kThreadBits | std::min(instr, kWriterInstr) << (kThreadBits + kBytesBits);
  }
}

bool Shadow::written_since(uint32_t word, uint32_t count, uint32_t serial, Touch* writer) const {
  if (serial_ == serial || !writers_) return false;
  for (uint32_t k = 0; k < count; k++) {
    if (writers_[word + k].serial <= serial) continue;
    *writer = touch_of(writers_[word + k]);
    return true;
  }
  return false;
}

void Shadow::set_written(uint32_t byte, uint32_t bytes, bool value) {
  while (bytes != 0) {
    const uint32_t at = byte & 63, n = std::min(bytes, 64 - at);
    const uint64_t bits = (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << at;
    if (value)
      written_[byte >> 6] |= bits;
    else
      written_[byte >> 6] &= ~bits;
    byte += n;
    bytes -= n;
  }
}

const Publication* Shadow::find_published(uint32_t word) const {
  if (published_.empty()) return nullptr;
  const auto found = published_.find(word);
  return found == published_.end() ? nullptr : &found->second;
}

void Shadow::forget_published(uint32_t word, uint32_t count) {
  if (published_.empty()) return;
  for (uint32_t k = 0; k < count; k++) published_.erase(word + k);
}

Page::Page(bool written) : shadow(kBytes / 4, false) {
  if (written) shadow.set_written(0, kBytes, true);
}

void PageLock::hold(Page* page, uint64_t launch) {
  if (page == page_) return;
  release();
  for (int spins = 0; page->lock.test_and_set(std::memory_order_acquire); ++spins) {
    if (spins > 100) std::this_thread::yield();  // the holder may have lost its core
  }
  page_ = page;
  if (page->launch != launch) {
    page->shadow.clear_races();
    page->launch = launch;
  }
}

void PageLock::release() {
  if (page_) page_->lock.clear(std::memory_order_release);
  page_ = nullptr;
}

}  // namespace emu
