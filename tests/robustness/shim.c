/* Meddles with the n-th act of a process on files of one folder; preloaded by server.py.

   An act is opening a file to write it, a write, rename, link, unlink, mkdir, truncation or fsync,
   whoever makes it: Python, torch, libvips or libtiff. What stdio of libc writes is not seen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_INSIDE, FAIL };

static char folder[4096];
static long wanted = -1, acts;
static int mode = COUNT, error_number;

/* Of the acts of one process; further processes get the same by the environment. */
void shim_set(const char *where, long at, int how, int error) {
    snprintf(folder, sizeof folder, "%s", where);
    wanted = at; mode = how; error_number = error; acts = 0;
}

long shim_count(void) { return acts; }

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("SHIM_FOLDER"), *at = getenv("SHIM_AT");
    const char *how = getenv("SHIM_MODE"), *error = getenv("SHIM_ERROR");
    if (where && at && how && error) shim_set(where, atol(at), atoi(how), atoi(error));
}

static void die(void) { kill(getpid(), SIGKILL); }

static int below(const char *path) {
    char whole[8192], here[4096];
    if (!folder[0] || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return strstr(path, folder) != NULL;
}

static int below_at(int dir, const char *path) {
    char link[64], base[4096], whole[8300];
    if (!folder[0] || !path) return 0;
    if (path[0] == '/' || dir == AT_FDCWD) return below(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return below(whole);
}

static int below_fd(int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path[0] == '/' && below(path);
}

/* 1 where this act has to fail, 2 where the process has to die inside of it. A disk that is full,
   broken or read-only stays so; a full one still lets files be removed and renamed. */
static int met(int grows) {
    long number = __sync_fetch_and_add(&acts, 1);
    if (wanted < 0 || number < wanted) return 0;
    if (mode == FAIL) {
        if (error_number == ENOSPC && !grows) return 0;
        errno = error_number;
        return 1;
    }
    if (number > wanted) return 0;
    if (mode == KILL_BEFORE) die();
    return mode == KILL_INSIDE ? 2 : 0;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define ACT(type, name, given, handed, where, grows)  \
    type name given {                                 \
        REAL(name);                                   \
        int how = where ? met(grows) : 0;             \
        if (how == 1) return (type)-1;                \
        type result = real handed;                    \
        if (how == 2) die();                          \
        return result;                                \
    }
#define WRITE(name, given, handed, half)              \
    ssize_t name given {                              \
        REAL(name);                                   \
        int how = below_fd(fd) ? met(1) : 0;          \
        if (how == 1) return -1;                      \
        if (how == 2) { real half; die(); }           \
        return real handed;                           \
    }
#define OPEN(name, given, last, test, handed)         \
    int name given {                                  \
        REAL(name);                                   \
        int permissions = 0;                          \
        if (flags & (O_CREAT | O_TMPFILE)) {          \
            va_list more;                             \
            va_start(more, last);                     \
            permissions = va_arg(more, int);          \
            va_end(more);                             \
        }                                             \
        int writes = flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC); \
        int how = writes && test ? met(1) : 0;        \
        if (how == 1) return -1;                      \
        int result = real handed;                     \
        if (how == 2) die();                          \
        return result;                                \
    }

OPEN(open, (const char *path, int flags, ...), flags, below(path), (path, flags, permissions))
OPEN(open64, (const char *path, int flags, ...), flags, below(path), (path, flags, permissions))
OPEN(openat, (int dir, const char *path, int flags, ...), flags, below_at(dir, path),
     (dir, path, flags, permissions))
OPEN(openat64, (int dir, const char *path, int flags, ...), flags, below_at(dir, path),
     (dir, path, flags, permissions))
WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
      (fd, data, size / 2, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
      (fd, data, size / 2, at))
WRITE(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count),
      (fd, parts, count / 2))
WRITE(sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size),
      (fd, from, at, size / 2))
WRITE(sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size),
      (fd, from, at, size / 2))
ssize_t copy_file_range(int from, off64_t *start, int fd, off64_t *at, size_t size, unsigned flags) {
    REAL(copy_file_range);
    int how = below_fd(fd) ? met(1) : 0;
    if (how == 1) return -1;
    if (how == 2) { real(from, start, fd, at, size / 2, flags); die(); }
    return real(from, start, fd, at, size, flags);
}
ACT(int, rename, (const char *a, const char *b), (a, b), below(b), 0)
ACT(int, renameat, (int c, const char *a, int d, const char *b), (c, a, d, b), below_at(d, b), 0)
ACT(int, renameat2, (int c, const char *a, int d, const char *b, unsigned f), (c, a, d, b, f),
    below_at(d, b), 0)
ACT(int, unlink, (const char *a), (a), below(a), 0)
ACT(int, unlinkat, (int d, const char *a, int f), (d, a, f), below_at(d, a), 0)
ACT(int, rmdir, (const char *a), (a), below(a), 0)
ACT(int, mkdir, (const char *a, mode_t m), (a, m), below(a), 1)
ACT(int, mkdirat, (int d, const char *a, mode_t m), (d, a, m), below_at(d, a), 1)
ACT(int, link, (const char *a, const char *b), (a, b), below(b), 1)
ACT(int, linkat, (int c, const char *a, int d, const char *b, int f), (c, a, d, b, f),
    below_at(d, b), 1)
ACT(int, symlink, (const char *a, const char *b), (a, b), below(b), 1)
ACT(int, fsync, (int fd), (fd), below_fd(fd), 1)
ACT(int, fdatasync, (int fd), (fd), below_fd(fd), 1)
ACT(int, ftruncate, (int fd, off_t size), (fd, size), below_fd(fd), 1)
ACT(int, ftruncate64, (int fd, off64_t size), (fd, size), below_fd(fd), 1)
