/* Stands between a program and the C library: counts, logs, fails or interrupts what it does to the
 * files below one folder, and sets its clock. Loaded with LD_PRELOAD; whatever is written through
 * the C library is seen: Python, and the libraries in Rust and C++ (safetensors, Arrow, SQLite).
 *
 * torture_arm() begins. Until then every call goes straight on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, OPEN = 2, SYNC = 4, RENAME = 8, MAKE = 16, REMOVE = 32 };

static int armed, log_file = -1, error_number, kinds, sticky;
static long nth;
static _Atomic long counted;
static long clock_offset;
static char prefix[PATH_MAX];

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The n-th operation of the kinds fails with the error (-1: the process is killed in it); with
 * `always` every later one too. n = 0 only counts and logs. */
void torture_arm(const char *below, long n, int error, int always, int of_kinds, int log) {
  snprintf(prefix, sizeof prefix, "%s", below);
  nth = n, error_number = error, sticky = always, kinds = of_kinds, log_file = log;
  counted = 0;
  armed = 1;
}
long torture_counted(void) { return counted; }
void torture_clock(long seconds) { clock_offset = seconds; }

static int below(const char *path) {
  size_t n = strlen(prefix);
  return !strncmp(path, prefix, n) && (path[n] == '/' || !path[n]);
}

static int resolve(int folder, const char *path, char *out) {
  if (path[0] == '/') { snprintf(out, PATH_MAX, "%s", path); return 1; }
  char base[PATH_MAX];
  if (folder == AT_FDCWD) {
    if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t n = readlink(link, base, sizeof base - 1);
    if (n < 0) return 0;
    base[n] = 0;
  }
  if (strlen(base) + strlen(path) + 2 > PATH_MAX) return 0;
  strcpy(out, base);
  strcat(out, "/");
  strcat(out, path);
  return 1;
}

static int of_file(int file, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t n = readlink(link, out, PATH_MAX - 1);
  if (n < 0) return 0;
  out[n] = 0;
  return out[0] == '/';
}

/* Whether there is nothing at a path yet; a folder that is there is not made again. */
static int fresh(const char *path) {
  struct stat found;
  int saved = errno, missing = lstat(path, &found) != 0;
  errno = saved;
  return missing;
}

/* Returns 0 to go on, 1 to fail with errno set, 2 to die. */
static int step(int kind, const char *what, const char *path, const char *second) {
  if (!armed || !(below(path) || (second && below(second)))) return 0;
  if (log_file >= 0) {
    char line[2 * PATH_MAX + 64];
    int n = snprintf(line, sizeof line, "%s\t%s\t%s\n", what, path, second ? second : "");
    syscall(SYS_write, log_file, line, (size_t)n);
  }
  if (!(kind & kinds)) return 0;
  long number = ++counted;
  if (!nth || number < nth || (number > nth && !sticky)) return 0;
  if (error_number < 0) return 2;
  errno = error_number;
  return 1;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

#define GUARD(kind, path, second) GUARD_ALL(kind, __func__, path, second)
#define GUARD_AS(kind, what, path) GUARD_ALL(kind, what, path, NULL)
#define GUARD_ALL(kind, what, path, second)             \
  do {                                                  \
    int saved = errno, found = step(kind, what, path, second); \
    if (found == 2) die();                              \
    if (found) return -1;                               \
    errno = saved;                                      \
  } while (0)
#define GUARD_FILE(kind, file)                          \
  do {                                                  \
    char path_[PATH_MAX];                               \
    int saved_ = errno;                                 \
    if (armed && of_file(file, path_)) GUARD(kind, path_, NULL); \
    errno = saved_;                                     \
  } while (0)

ssize_t write(int file, const void *data, size_t size) {
  REAL(write);
  char path[PATH_MAX];
  int saved = errno;
  if (armed && of_file(file, path)) {
    int found = step(WRITE, "write", path, NULL);
    if (found) {
      if (found == 2) { /* a process dies in the midst */
        real(file, data, size / 2);
        die();
      }
      errno = error_number;
      return -1;
    }
  }
  errno = saved;
  return real(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) { REAL(pwrite); GUARD_FILE(WRITE, file); return real(file, data, size, at); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) { REAL(pwrite64); GUARD_FILE(WRITE, file); return real(file, data, size, at); }
ssize_t writev(int file, const struct iovec *parts, int count) { REAL(writev); GUARD_FILE(WRITE, file); return real(file, parts, count); }
int ftruncate(int file, off_t size) { REAL(ftruncate); GUARD_FILE(WRITE, file); return real(file, size); }
int ftruncate64(int file, off64_t size) { REAL(ftruncate64); GUARD_FILE(WRITE, file); return real(file, size); }
int fsync(int file) { REAL(fsync); GUARD_FILE(SYNC, file); return real(file); }
int fdatasync(int file) { REAL(fdatasync); GUARD_FILE(SYNC, file); return real(file); }

#define OPENING(name)                                                     \
  int name(const char *path, int flags, ...) {                            \
    REAL(name);                                                           \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    char whole[PATH_MAX];                                                 \
    if (armed && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && resolve(AT_FDCWD, path, whole)) { if (fresh(whole)) GUARD_AS(OPEN, "create", whole); else GUARD_AS(OPEN, "open", whole); } \
    return real(path, flags, mode);                                       \
  }
OPENING(open)
OPENING(open64)
#define OPENING_AT(name)                                                  \
  int name(int folder, const char *path, int flags, ...) {                \
    REAL(name);                                                           \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    char whole[PATH_MAX];                                                 \
    if (armed && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && resolve(folder, path, whole)) { if (fresh(whole)) GUARD_AS(OPEN, "create", whole); else GUARD_AS(OPEN, "open", whole); } \
    return real(folder, path, flags, mode);                               \
  }
OPENING_AT(openat)
OPENING_AT(openat64)

int renameat(int from, const char *old, int to, const char *new) {
  REAL(renameat);
  char first[PATH_MAX], second[PATH_MAX];
  if (armed && resolve(from, old, first) && resolve(to, new, second)) GUARD(RENAME, first, second);
  return real(from, old, to, new);
}
int rename(const char *old, const char *new) {
  REAL(rename);
  char first[PATH_MAX], second[PATH_MAX];
  if (armed && resolve(AT_FDCWD, old, first) && resolve(AT_FDCWD, new, second)) GUARD(RENAME, first, second);
  return real(old, new);
}
int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  char whole[PATH_MAX];
  if (armed && resolve(AT_FDCWD, path, whole) && fresh(whole)) GUARD(MAKE, whole, NULL);
  return real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
  REAL(mkdirat);
  char whole[PATH_MAX];
  if (armed && resolve(folder, path, whole) && fresh(whole)) GUARD(MAKE, whole, NULL);
  return real(folder, path, mode);
}
int unlink(const char *path) {
  REAL(unlink);
  char whole[PATH_MAX];
  if (armed && resolve(AT_FDCWD, path, whole)) GUARD(REMOVE, whole, NULL);
  return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  char whole[PATH_MAX];
  if (armed && resolve(folder, path, whole)) GUARD(REMOVE, whole, NULL);
  return real(folder, path, flags);
}
int rmdir(const char *path) {
  REAL(rmdir);
  char whole[PATH_MAX];
  if (armed && resolve(AT_FDCWD, path, whole)) GUARD(REMOVE, whole, NULL);
  return real(path);
}

int clock_gettime(clockid_t which, struct timespec *now) {
  REAL(clock_gettime);
  int found = real(which, now);
  if (!found && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += clock_offset;
  return found;
}
time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
  REAL(gettimeofday);
  int found = real(now, zone);
  if (!found) now->tv_sec += clock_offset;
  return found;
}
