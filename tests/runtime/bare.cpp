// All that the engine and cross.c need of a machine that has no C library and
// no floating point: a few functions of strings and memory, and three calls
// of the system, which qemu-riscv64 answers as Linux does.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <new>

// Of functions that the compiler would make of loops, even of their own.
#define AQD_PLAIN __attribute__((no_builtin))

namespace {

constexpr size_t kMemory = size_t{1} << 30;  // of which pages count when used
constexpr size_t kAlignment = 64;

alignas(kAlignment) char memory[kMemory];
size_t used = 0;

long call(long number, long a, long b, long c) {
  register long a0 asm("a0") = a;
  register long a1 asm("a1") = b;
  register long a2 asm("a2") = c;
  register long a7 asm("a7") = number;
  asm volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
  return a0;
}

}  // namespace

extern "C" {

int main();

ssize_t read(int file, void *to, size_t count) {
  return call(63, file, reinterpret_cast<long>(to), static_cast<long>(count));
}

ssize_t write(int file, const void *from, size_t count) {
  return call(64, file, reinterpret_cast<long>(from), static_cast<long>(count));
}

void _exit(int status) {
  for (;;) call(93, status, 0, 0);
}

void abort() { _exit(134); }

// Linux gives a stack; what is on it does not matter here.
[[noreturn]] void _start() { _exit(main()); }

char *getenv(const char *) { return nullptr; }

// Nothing is used again: a run is short.
void *malloc(size_t count) {
  const size_t need = (count + kAlignment - 1) / kAlignment * kAlignment;
  if (need < count || need > kMemory - used) return nullptr;
  used += need;
  return memory + used - need;
}

void free(void *) {}

AQD_PLAIN void *memcpy(void *to, const void *from, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    static_cast<char *>(to)[i] = static_cast<const char *>(from)[i];
  }
  return to;
}

AQD_PLAIN void *memmove(void *to, const void *from, size_t count) {
  if (reinterpret_cast<uintptr_t>(to) <= reinterpret_cast<uintptr_t>(from)) {
    return memcpy(to, from, count);
  }
  for (size_t i = count; i-- > 0;) {
    static_cast<char *>(to)[i] = static_cast<const char *>(from)[i];
  }
  return to;
}

AQD_PLAIN void *memset(void *to, int value, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    static_cast<char *>(to)[i] = static_cast<char>(value);
  }
  return to;
}

AQD_PLAIN int memcmp(const void *x, const void *y, size_t count) {
  const unsigned char *a = static_cast<const unsigned char *>(x);
  const unsigned char *b = static_cast<const unsigned char *>(y);
  for (size_t i = 0; i < count; ++i) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

AQD_PLAIN int bcmp(const void *x, const void *y, size_t count) {
  return memcmp(x, y, count);
}

void *memchr(const void *in, int value, size_t count) {
  for (const char *at = static_cast<const char *>(in); count > 0; ++at) {
    if (*at == static_cast<char>(value)) return const_cast<char *>(at);
    --count;
  }
  return nullptr;
}

int strcmp(const char *x, const char *y) {
  while (*x != '\0' && *x == *y) ++x, ++y;
  return static_cast<unsigned char>(*x) - static_cast<unsigned char>(*y);
}

AQD_PLAIN size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

}  // extern "C"

void *operator new(size_t count) {
  void *made = malloc(count);
  if (made == nullptr) abort();
  return made;
}

void *operator new(size_t count, const std::nothrow_t &) noexcept {
  return malloc(count);
}

void *operator new[](size_t count, const std::nothrow_t &) noexcept {
  return malloc(count);
}

void operator delete(void *) noexcept {}
void operator delete[](void *) noexcept {}

const std::nothrow_t std::nothrow{};
