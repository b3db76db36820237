// What is remembered of every byte of memory: whether it was written, and of every 4-byte word who wrote it last and
// who has read it since.
//
// A word is in the plain form as long as its accesses are weak and its last writer is one thread: one Writer, and up to
// four Readers (two in global memory), each the lanes of one warp in one epoch that read the same bytes. Where more
// warps read a word without being ordered among each other, so many of them are kept, each at its own place first.
// Every other word (strong operations, bytes of one word written by different threads) has a Cell: the list of all
// accesses that matter.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emu/exec/warp.h"
#include "emu/memory/clock.h"
#include "emu/memory/memory.h"

namespace emu {

// How an access may race: strong operations (PTX ISA 9.0, 8.7) do not race with each other where their scopes hold
// both.
enum class Strength : uint8_t { kWeak, kCta, kGpu };

// One access, or the same access of several lanes of a warp.
struct Touch {
  uint32_t block = 0;
  uint16_t warp = 0;
  uint8_t bytes = 0;  // of the word, one bit each
  Strength strength = Strength::kWeak;
  bool is_write = false;
  Mask lanes = 0;
  uint32_t epoch = 0;
  uint32_t instr = 0;
};

// The warp that makes an access, with what a check needs at hand.
struct Actor {
  Actor(Warp& warp, Strength strength, ptx::Space space);
  // Of a store: `bytes` of every active lane, which lie `stride` apart.
  Actor(Warp& warp, Strength strength, ptx::Space space, Mask active, const uint64_t* address, uint32_t bytes,
        const std::byte* values, uint32_t stride);
  Warp& warp;
  Launch& launch;
  uint32_t block, index, epoch, base, common;  // common: below it every epoch of the own warp is known
  uint32_t instr;
  Strength strength;
  ptx::Space space;
  bool races;  // Config::races
  // A store's own accesses, by which lanes of one execution are told from an earlier one.
  Mask active = 0;
  const uint64_t* address = nullptr;
  uint32_t bytes = 0;
  const std::byte* values = nullptr;
  uint32_t stride = 0;
};

Strength strength_of(Order order, Scope scope);

// A conflict that Shadow found, as a finding. `what` names the access in hand: "load", "cp.async write of the
// destination". in_flight: the other is an unfinished cp.async.
void report_conflict(const Actor& now, int lane, const Touch& other, bool in_flight, const char* what, uint64_t address,
                     uint32_t bytes);
// The source of a cp.async (of instruction `copy`) was written between issue and wait.
void report_source_overwritten(const Actor& now, int lane, const Touch& writer, uint32_t copy, uint64_t address,
                               uint32_t bytes);
// "global address 0x..., byte 8 of the allocation of 4096 bytes at 0x...", "shared address 0x40 (of 8192 bytes)"
std::string describe(ptx::Space space, uint64_t address, const Block& block);

// All lanes of `before` are ordered before what `lane` does now, but for the lane itself.
bool ordered(const Touch& before, const Actor& now, int lane);
// Not ordered, one of them a write, bytes in common, and not both strong enough for each other.
bool in_conflict(const Touch& before, const Actor& now, int lane, uint32_t bytes, bool is_write);

class Cell {
 public:
  // Gives the first access in conflict, or null, and remembers this one.
  bool touch(const Actor& now, int lane, uint32_t bytes, bool is_write, Touch* conflict);
  void add(const Touch& touch) { touches_.push_back(touch); }
  // The only access left is a weak write of the whole word: the plain form does.
  bool is_plain() const;
  const Touch& front() const { return touches_.front(); }

 private:
  std::vector<Touch> touches_;
};

class Shadow {
 public:
  // `single_block`: all accesses come from one block (shared memory).
  Shadow(uint32_t words, bool single_block);
  void clear_races();  // a new launch: forgets accesses and publications, not what was written
  void clear_written();

  // Accesses of whole words, `count` of them, by one lane; or of some bytes of one word. True: a conflict, with the
  // first such word in *word_found.
  bool read(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t bytes, Touch* conflict,
            uint32_t* word_found);
  bool write(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t bytes, Touch* conflict,
             uint32_t* word_found);

  // The same for whole words, weak, in the usual case: the last write is behind a barrier, or there is none. False:
  // nothing is known yet, read() decides.
  struct Reading;
  Reading reading(const Actor& now);
  bool quick_read(const Reading& reading, const Actor& now, int lane, uint32_t word, uint32_t count);

  // cp.async: a word that is in flight belongs to it until the wait. `write` and `read` give a conflict with it whoever
  // asks, with *in_flight of is_in_flight(word) true.
  void begin_flight(const Actor& now, int lane, uint32_t word, uint32_t count);
  void end_flight(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t instr);
  bool is_in_flight(uint32_t word) const { return writers_ && writers_[word].epoch == kInFlight; }
  Touch in_flight_by(uint32_t word) const { return touch_of(writers_[word]); }
  // Writes so far; any write of the words since `serial`?
  uint32_t serial() const { return serial_; }
  bool written_since(uint32_t word, uint32_t count, uint32_t serial, Touch* writer) const;

  // Whether bytes were written, by anyone.
  bool is_written(uint32_t byte, uint32_t bytes) const {  // at most 64, within an aligned 64
    const uint64_t need = (bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1) << (byte & 63);
    return (written_[byte >> 6] & need) == need;
  }
  void set_written(uint32_t byte, uint32_t bytes, bool value);

  Publication& published(uint32_t word) { return published_[word]; }
  // What the word publishes, or nothing (a plain write has replaced it).
  const Publication* find_published(uint32_t word) const;
  void forget_published(uint32_t word, uint32_t count);

 private:
  struct Writer {
    uint32_t block, epoch, by, serial;  // by: thread 10 | bytes 4 | instr 18
  };
  struct Reader {
    uint32_t block, epoch;
    Mask lanes;
    uint32_t by;  // warp 5 | bytes 4 | instr 23
  };
  static constexpr uint32_t kReaderKey = (1u << 9) - 1;  // of Reader::by: who, and which bytes
  static constexpr int kPlanes = 4;
  static constexpr uint32_t kInFlight = ~uint32_t{0};
  static constexpr uint32_t kCell = ~uint32_t{0} - 1;

  static Touch touch_of(const Writer& w);
  static Touch touch_of(const Reader& r);
  // Known to every thread of the block, so that it matters no more to any of them. (Other blocks learn of it only
  // through what this block does later.)
  bool is_past(uint32_t block, uint32_t epoch, const Actor& now) const;
  bool read_word(const Actor& now, int lane, uint32_t word, uint32_t bytes, Touch* conflict);
  bool write_word(const Actor& now, int lane, uint32_t word, uint32_t bytes, Touch* conflict);
  template <bool (Shadow::*touch)(const Actor&, int, uint32_t, uint32_t, Touch*)>
  bool touch_words(const Actor& now, int lane, uint32_t word, uint32_t count, uint32_t bytes, Touch* conflict,
                   uint32_t* word_found);
  bool touch_cell(const Actor& now, int lane, uint32_t word, uint32_t bytes, bool is_write, Touch* conflict);
  void add_reader(const Actor& now, int lane, uint32_t word, uint32_t bytes);
  Reader* plane(int k) { return readers_[k] && k < planes_ ? readers_[k].get() : make_plane(k); }
  Reader* make_plane(int k);
  // The plane where a warp looks first, and how many it may use.
  int home(const Actor& now) const {
    return static_cast<int>((now.index + (single_block_ ? 0 : now.block)) & most_mask());
  }
  uint32_t most_mask() const { return single_block_ ? 3 : 1; }
  void make_cell(uint32_t word);
  void need_writers();

  uint32_t words_;
  bool single_block_;
  bool has_writers_ = false;  // some Writer of this launch is set
  int planes_ = 0;            // with a Reader of this launch
  uint32_t serial_ = 0;
  std::unique_ptr<uint32_t[]> last_read_;  // single_block: the last epoch in which anybody read the word
  std::unique_ptr<Writer[]> writers_;
  std::unique_ptr<Reader[]> readers_[kPlanes];
  std::vector<uint64_t> written_;  // bit a byte
  std::unordered_map<uint32_t, Cell> cells_;
  std::unordered_map<uint32_t, Publication> published_;
};

struct Shadow::Reading {
  const Writer* writers;  // null: none in this launch
  Reader* readers;        // the warp's own plane
  uint32_t key, by;
};

inline bool Shadow::is_past(uint32_t block, uint32_t epoch, const Actor& now) const {
  return epoch == 0 || (epoch < now.base && (single_block_ || block == now.block));
}

inline bool Shadow::quick_read(const Reading& reading, const Actor& now, int lane, uint32_t word, uint32_t count) {
  const Mask bit = Mask{1} << lane;
  for (uint32_t k = word; k < word + count; k++) {
    if (reading.writers != nullptr && !is_past(reading.writers[k].block, reading.writers[k].epoch, now)) return false;
    Reader& r = reading.readers[k];
    if (r.epoch == now.epoch && r.block == now.block && (r.by & kReaderKey) == reading.key) {
      r.lanes |= bit;
    } else if (is_past(r.block, r.epoch, now)) {
      r = Reader{now.block, now.epoch, bit, reading.by};
      if (last_read_ && last_read_[k] < now.epoch) last_read_[k] = now.epoch;
    } else {
      add_reader(now, lane, k, 15);
    }
  }
  return true;
}

// 4096 bytes of global memory. Its lock guards the bytes too, so that an access is one for all host threads.
struct Page {
  static constexpr uint32_t kBytes = 4096;
  explicit Page(bool written);
  std::atomic_flag lock = ATOMIC_FLAG_INIT;
  uint64_t launch = ~uint64_t{0};
  Shadow shadow;
};

class PageLock {
 public:
  PageLock() = default;
  ~PageLock() { release(); }
  PageLock(const PageLock&) = delete;
  PageLock& operator=(const PageLock&) = delete;
  // Locks `page` in place of the one held, and brings it to the launch.
  void hold(Page* page, uint64_t launch);
  void release();
  Page* page() const { return page_; }

 private:
  Page* page_ = nullptr;
};

}  // namespace emu
