// Packed weight matrices: panels of 16 output rows, so that one loaded input value serves 16 outputs.
//
//   float codecs   [panel][k][16 rows]
//   F8             [panel][k / 128]{16 float scales; [128 k][16 rows]}
//   INT8           [panel][k / 32]{16 f16 scales; [8 quads][16 rows][4 k]}
//   INT4, INT4M    [panel][k / 32]{16 f16 scales; INT4M: 16 f16 minima; [4][16 rows][4 k, two nibbles]}
//
// In the 4-bit codecs the low nibbles hold k..k+3 and the high ones k+4..k+7. A value is scale * (q - 8)
// in INT4 and scale * q + minimum in INT4M. Rows are padded to 16, and k to whole blocks, with zeros.
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <utility>

#include "simd.h"

namespace r1 {

enum Codec : int { CODEC_F32 = 0, CODEC_BF16, CODEC_F16, CODEC_F8, CODEC_INT8, CODEC_INT4, CODEC_INT4M };

constexpr int F8_BLOCK = 128;
constexpr int INT_BLOCK = 32;

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }
inline int round_up(int a, int b) { return ceil_div(a, b) * b; }

// Memory for weights and caches, on huge pages where the kernel has them.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { clear(); }

  void allocate(size_t bytes) {
    clear();
    if (!bytes) return;
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (bytes >= (4u << 20)) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    data_ = static_cast<uint8_t*>(p);
    bytes_ = bytes;
  }
  // A part of a file, read-only.
  void map_file(int file, size_t offset, size_t bytes) {
    clear();
    void* p = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, off_t(offset));
    if (p == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<uint8_t*>(p);
    bytes_ = bytes;
  }
  void swap(Memory& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  void clear() {
    if (data_) munmap(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
  }
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

inline size_t panel_bytes(Codec codec, int cols) {
  switch (codec) {
    case CODEC_F32: return size_t(cols) * LANES * 4;
    case CODEC_BF16:
    case CODEC_F16: return size_t(cols) * LANES * 2;
    case CODEC_F8: return size_t(ceil_div(cols, F8_BLOCK)) * (LANES * 4 + F8_BLOCK * LANES);
    case CODEC_INT8: return size_t(ceil_div(cols, INT_BLOCK)) * (LANES * 2 + INT_BLOCK * LANES);
    case CODEC_INT4: return size_t(ceil_div(cols, INT_BLOCK)) * (LANES * 2 + INT_BLOCK * LANES / 2);
    case CODEC_INT4M: return size_t(ceil_div(cols, INT_BLOCK)) * (LANES * 4 + INT_BLOCK * LANES / 2);
  }
  return 0;
}

struct Matrix {
  Codec codec = CODEC_F32;
  int rows = 0, cols = 0, panels = 0;
  size_t stride = 0;  // bytes of a panel
  Memory memory;
  float* bias = nullptr;  // [panels * 16], or null

  bool empty() const { return panels == 0; }
  const uint8_t* panel(int p) const { return memory.data() + size_t(p) * stride; }
  uint8_t* panel(int p) { return memory.data() + size_t(p) * stride; }
  bool integer() const { return codec >= CODEC_INT8; }
  int width() const { return panels * LANES; }

  void allocate(Codec c, int n, int k) {
    codec = c;
    rows = n;
    cols = k;
    panels = ceil_div(n, LANES);
    stride = panel_bytes(c, k);
    memory.allocate(stride * panels);
  }
  ~Matrix() { std::free(bias); }
};

}  // namespace r1
