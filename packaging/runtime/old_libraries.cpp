// Functions of which new C and C++ libraries have new versions. The engine is
// satisfied with the old ones, so a wheel that is built on a new system runs on
// old ones as well. The linker prefers these definitions to the libraries'.

#include <pthread.h>

#include <cstdlib>

#if defined(__x86_64__)
#define FIRST_GLIBC "GLIBC_2.2.5"
#else
#define FIRST_GLIBC "GLIBC_2.17"
#endif
#define HIDDEN extern "C" __attribute__((visibility("hidden")))
#define WAIT "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE"

// Until glibc 2.34 they were in another library.
__asm__(".symver old_create, pthread_create@" FIRST_GLIBC);
__asm__(".symver old_join, pthread_join@" FIRST_GLIBC);
// std::condition_variable::wait, which GCC 12 made noexcept.
__asm__(".symver old_wait, " WAIT "@GLIBCXX_3.4.11");

extern "C" {
int old_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int old_join(pthread_t, void**);
void old_wait(void* condition, void* lock);
}

HIDDEN int create(pthread_t* thread, const pthread_attr_t* attributes,
                  void* (*start)(void*), void* argument) __asm__("pthread_create");
HIDDEN int create(pthread_t* thread, const pthread_attr_t* attributes,
                  void* (*start)(void*), void* argument) {
  return old_create(thread, attributes, start, argument);
}

HIDDEN int join(pthread_t thread, void** result) __asm__("pthread_join");
HIDDEN int join(pthread_t thread, void** result) {
  return old_join(thread, result);
}

HIDDEN void wait(void* condition, void* lock) __asm__(WAIT);
HIDDEN void wait(void* condition, void* lock) { old_wait(condition, lock); }

// New in GCC 11. The engine is compiled without exceptions: it ends either way.
HIDDEN void bad_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");
HIDDEN void bad_length() { std::abort(); }
