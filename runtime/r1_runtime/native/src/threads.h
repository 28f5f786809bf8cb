// Threads that run one function together, as in an OpenMP parallel region, with a bounded spin.
//
// A step has tens of short phases. A thread that sleeps between two of them costs two system calls; a
// thread that spins without bound takes the core of a neighbour that the others wait for. A thread
// therefore spins for about the length of a phase and then sleeps on a futex.
#pragma once
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <functional>
#include <thread>
#include <vector>

namespace r1 {

class Word {  // a futex word: waits until it differs from a value
 public:
  std::atomic<int> value{0};

  void wait_while(int old, int spins) {
    for (int i = 0; i < spins; i++) {
      if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#else
      std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
    }
    sleepers_.fetch_add(1);
    while (value.load() == old)
      syscall(SYS_futex, reinterpret_cast<int*>(&value), FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
    sleepers_.fetch_sub(1);
  }
  void advance() {
    value.fetch_add(1);
    if (sleepers_.load())
      syscall(SYS_futex, reinterpret_cast<int*>(&value), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }

 private:
  std::atomic<int> sleepers_{0};
};

class Pool;

// What the function of a step sees of its thread.
struct Worker {
  Pool* pool;
  int index;
  int count;

  void barrier();
  // Calls body(begin, end) for parts of [0, items) until all are taken. Ends without a barrier.
  template <class Body>
  void share(int items, int part, Body body);
};

class Pool {
 public:
  explicit Pool(int threads) { resize(threads); }
  ~Pool() { stop(); }

  int size() const { return int(threads_.size()) + 1; }
  void resize(int threads) {
    if (threads == size() && started_) return;
    stop();
    started_ = true;
    for (int i = 1; i < threads; i++)
      threads_.emplace_back([this, i, seen = job_.value.load()]() mutable { serve(i, seen); });
  }
  void run(const std::function<void(Worker&)>& body) {
    Worker own{this, 0, size()};
    next_.store(0);
    if (own.count == 1) return body(own);
    body_ = &body;
    job_.advance();
    body(own);
    own.barrier();  // no thread is inside the body any more
  }

 private:
  friend struct Worker;
  static constexpr int kSpins = 2000;  // tens of microseconds

  void serve(int index, int seen) {
    for (;;) {
      job_.wait_while(seen, kSpins);
      seen = job_.value.load();
      if (ending_) return;
      Worker own{this, index, size()};
      (*body_)(own);
      own.barrier();
    }
  }
  void stop() {
    if (threads_.empty()) return;
    ending_ = true;
    job_.advance();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    ending_ = false;
  }

  std::vector<std::thread> threads_;
  const std::function<void(Worker&)>* body_ = nullptr;
  bool started_ = false;
  std::atomic<bool> ending_{false};
  alignas(64) Word job_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) Word phase_;
  alignas(64) std::atomic<int> next_{0};
};

inline void Worker::barrier() {
  if (count == 1) {
    pool->next_.store(0, std::memory_order_relaxed);
    return;
  }
  int phase = pool->phase_.value.load(std::memory_order_acquire);
  if (pool->arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
    pool->arrived_.store(0, std::memory_order_relaxed);
    pool->next_.store(0, std::memory_order_relaxed);
    pool->phase_.advance();
  } else {
    pool->phase_.wait_while(phase, Pool::kSpins);
  }
}

template <class Body>
void Worker::share(int items, int part, Body body) {
  if (count == 1) {
    if (items) body(0, items);
    return;
  }
  for (;;) {
    int begin = pool->next_.fetch_add(part, std::memory_order_relaxed);
    if (begin >= items) return;
    body(begin, begin + part < items ? begin + part : items);
  }
}

}  // namespace r1
