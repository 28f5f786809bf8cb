// Tiers of experts: some in memory, all of them in one packed file of which the others are mapped.
//
// A mapped expert is read through the page cache, which the kernel may reclaim: it needs no memory of its
// own, and costs a read of the disk where the kernel took its pages. A thread of its own asks for pages
// that the next layer will probably read. Places change between two steps alone.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "matrix.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace r1 {

// Where an expert's two matrices are. The matrix's own memory is the one that is read.
struct ExpertPlace {
  bool stored = false;    // the file has a copy
  bool resident = true;
  Memory other[2];        // the file's part of a resident expert; empty for the others
  size_t offset[2] = {};  // in the file
  float recent = 0;       // tokens, the older ones counted less
};

// Asks for pages on a thread of its own. A request that is too late does no harm.
class Prefetcher {
 public:
  ~Prefetcher() { stop(); }

  void start() {
    if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    ready_.notify_one();
    thread_.join();
    ending_ = false;
    waiting_.clear();
  }
  void ask(const Memory& memory) {
    if (!thread_.joinable()) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (waiting_.size() >= kLongest) return;
      waiting_.push_back({memory.data(), memory.bytes()});
    }
    ready_.notify_one();
  }
  // Waits until no request is being served: the caller may then unmap memory.
  void settle() {
    if (!thread_.joinable()) return;
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_.clear();
    idle_.wait(lock, [this] { return !busy_; });
  }

 private:
  static constexpr size_t kLongest = 256;
  struct Range {
    void* data;
    size_t bytes;
  };

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      ready_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
      if (ending_) return;
      const Range next = waiting_.front();
      waiting_.erase(waiting_.begin());
      busy_ = true;
      lock.unlock();
      if (madvise(next.data, next.bytes, MADV_POPULATE_READ)) madvise(next.data, next.bytes, MADV_WILLNEED);
      lock.lock();
      busy_ = false;
      idle_.notify_all();
    }
  }

  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable ready_, idle_;
  std::vector<Range> waiting_;
  bool busy_ = false, ending_ = false;
};

// The packed file, and what its use has cost.
class ExpertFile {
 public:
  uint64_t hits = 0, misses = 0, promotions = 0;  // hits and misses: an expert that a step reads
  uint64_t resident_bytes = 0;
  bool promotes = true;
  Prefetcher prefetcher;

  ~ExpertFile() {
    if (file_ >= 0) close(file_);
  }
  bool open_for_use() const { return file_ >= 0; }
  uint64_t bytes() const { return end_; }

  // A file without a name in the folder: it goes with the process.
  void create(const char* folder) {
    constexpr long kTmpfs = 0x01021994, kRamfs = 0x858458f6;
    std::string path = std::string(folder) + "/r1-experts-XXXXXX";
    file_ = mkostemp(path.data(), O_CLOEXEC);
    if (file_ < 0) throw std::runtime_error("no file can be made in " + std::string(folder));
    unlink(path.c_str());
    struct statfs system;
    if (fstatfs(file_, &system) == 0 && (system.f_type == kTmpfs || system.f_type == kRamfs)) {
      close(file_);
      file_ = -1;
      throw std::runtime_error(std::string(folder) + " is in memory (tmpfs); a disk is needed");
    }
  }

  // Writes the packed matrix (0: gate and up, 1: down) and keeps it in memory or maps it.
  void store(ExpertPlace& place, Matrix& matrix, int which, bool resident) {
    const size_t page = 4096, bytes = matrix.memory.bytes();
    place.offset[which] = end_;
    for (size_t at = 0; at < bytes;) {
      const ssize_t n = pwrite(file_, matrix.memory.data() + at, bytes - at, off_t(end_ + at));
      if (n <= 0) throw std::runtime_error("the file of the experts cannot be written: is the disk full?");
      at += size_t(n);
    }
    place.other[which].map_file(file_, end_, bytes);
    end_ += (bytes + page - 1) / page * page;
    place.stored = true;
    place.resident = resident;
    if (resident) {
      resident_bytes += bytes;
    } else {
      matrix.memory.swap(place.other[which]);
      place.other[which].clear();
    }
  }

  // Gives the memory of a resident expert to another one of the same size. False where sizes differ.
  bool exchange(ExpertPlace& out, Matrix* const from[2], ExpertPlace& in, Matrix* const to[2]) {
    for (int i = 0; i < 2; i++)
      if (from[i]->memory.bytes() != to[i]->memory.bytes()) return false;
    prefetcher.settle();
    for (int i = 0; i < 2; i++) {
      memcpy(from[i]->memory.data(), to[i]->memory.data(), to[i]->memory.bytes());
      // `from` gets its part of the file, `to` the memory; `to`'s part of the file waits in `in`.
      from[i]->memory.swap(to[i]->memory);
      from[i]->memory.swap(in.other[i]);
      from[i]->memory.swap(out.other[i]);
    }
    out.resident = false;
    in.resident = true;
    promotions++;
    return true;
  }

  // Takes the file's pages out of this process and out of the page cache.
  void evict(const std::vector<const Memory*>& mapped) {
    prefetcher.settle();
    for (const Memory* one : mapped) madvise(one->data(), one->bytes(), MADV_DONTNEED);
    fdatasync(file_);
    posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
  }

 private:
  int file_ = -1;
  size_t end_ = 0;
};

}  // namespace r1
