/*
 * Preloaded into a node: counts what it does to files below certain folders, and makes the n-th
 * step fail, or kills the process there. Set up by the environment:
 *
 *   SHIM_DIRS     folders, separated by ':'; what happens elsewhere is let through
 *   SHIM_STEP     the step that fails, from 1; 0: none
 *   SHIM_FAULT    enospc, eio: the step fails; enospc for good, as on a full disk
 *                 short: a write stops half way, then the disk is full
 *                 kill: the process dies, in a write of an odd number half way through
 *   SHIM_COUNTER  a file of 8 bytes that is mapped and holds the number of steps so far
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { NONE, FULL, BROKEN, SHORT, KILL };
enum { MAX_FDS = 4096, MAX_DIRS = 8 };
enum { UNKNOWN, OTHER, WATCHED };

static enum fault fault;
static uint64_t step_at;
static _Atomic uint64_t *counter;
static _Atomic uint64_t own_counter;
static char *dirs[MAX_DIRS];
static _Atomic char known[MAX_FDS];

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void set_up(void)
{
    counter = &own_counter;
    const char *text = getenv("SHIM_DIRS");
    if (!text) return;
    char *list = strdup(text), *rest = list, *dir;
    for (int i = 0; i < MAX_DIRS && (dir = strsep(&rest, ":")); i++) dirs[i] = dir;
    if ((text = getenv("SHIM_STEP"))) step_at = strtoull(text, NULL, 10);
    if ((text = getenv("SHIM_FAULT")))
        fault = !strcmp(text, "enospc") ? FULL : !strcmp(text, "eio") ? BROKEN
              : !strcmp(text, "short") ? SHORT : !strcmp(text, "kill") ? KILL : NONE;
    if ((text = getenv("SHIM_COUNTER"))) {
        int fd = REAL(open)(text, O_RDWR);
        void *page = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) counter = page;
        REAL(close)(fd);
    }
    /* What the node starts is its own business. */
    unsetenv("LD_PRELOAD");
}

static int watched_path(const char *path)
{
    for (int i = 0; i < MAX_DIRS && dirs[i]; i++) {
        size_t len = strlen(dirs[i]);
        if (!strncmp(path, dirs[i], len) && (path[len] == '/' || !path[len])) return 1;
    }
    return 0;
}

static int watched_fd(int fd)
{
    if (fd < 0 || fd >= MAX_FDS) return 0;
    if (known[fd] == UNKNOWN) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof path - 1);
        path[len > 0 ? len : 0] = 0;
        known[fd] = watched_path(path) ? WATCHED : OTHER;
    }
    return known[fd] == WATCHED;
}

/* Counts a step. Says whether it is to fail, and by which error. */
static int fails(int grows, uint64_t *at)
{
    uint64_t step = atomic_fetch_add(counter, 1) + 1;
    *at = step;
    if (!step_at || step < step_at || fault == NONE) return 0;
    if (fault == KILL) {
        if (step == step_at) return EINTR;
        return 0;
    }
    if (fault == BROKEN) return step == step_at ? EIO : 0;
    /* A full disk stays full, and still lets go of things. */
    return grows ? ENOSPC : 0;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* For steps that move no bytes: true if the caller is to return -1. */
static int stopped(int grows)
{
    uint64_t at;
    int error = fails(grows, &at);
    if (!error) return 0;
    if (fault == KILL) die();
    errno = error;
    return 1;
}

/* For writes: how many of the bytes to write, or -1. */
static ssize_t room(size_t len)
{
    uint64_t at;
    int error = fails(1, &at);
    if (!error) return (ssize_t)len;
    if (fault == KILL) {
        if (at % 2 == 0 || len < 2) die();
        return (ssize_t)(len / 2);
    }
    if (fault == SHORT && at == step_at && len > 1) return (ssize_t)(len / 2);
    errno = error;
    return -1;
}

#define WRITE(call)                                     \
    if (!watched_fd(fd)) return call;                   \
    size_t whole = len;                                 \
    ssize_t part = room(len);                           \
    if (part < 0) return -1;                            \
    len = (size_t)part;                                 \
    ssize_t done = call;                                \
    if (fault == KILL && len < whole) die();            \
    return done;

ssize_t write(int fd, const void *bytes, size_t len) { WRITE(REAL(write)(fd, bytes, len)) }

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { WRITE(REAL(pwrite)(fd, bytes, len, at)) }

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) { WRITE(REAL(pwrite64)(fd, bytes, len, at)) }

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (watched_fd(fd) && stopped(1)) return -1;
    return REAL(writev)(fd, parts, count);
}

#define SYNC(name)                                      \
    int name(int fd)                                    \
    {                                                   \
        if (watched_fd(fd) && stopped(1)) return -1;    \
        return REAL(name)(fd);                          \
    }
SYNC(fsync)
SYNC(fdatasync)

int ftruncate(int fd, off_t len)
{
    if (watched_fd(fd) && stopped(1)) return -1;
    return REAL(ftruncate)(fd, len);
}

int ftruncate64(int fd, off64_t len)
{
    if (watched_fd(fd) && stopped(1)) return -1;
    return REAL(ftruncate64)(fd, len);
}

int rename(const char *from, const char *to)
{
    if (watched_path(to) && stopped(1)) return -1;
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    if (watched_path(path) && stopped(0)) return -1;
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    if (watched_path(path) && stopped(1)) return -1;
    return REAL(mkdir)(path, mode);
}

/* Only opening that may make a file counts. */
#define OPEN(name, arguments, call)                                     \
    int name arguments                                                  \
    {                                                                   \
        mode_t mode = 0;                                                \
        if (flags & (O_CREAT | O_TMPFILE)) {                            \
            va_list rest;                                               \
            va_start(rest, flags);                                      \
            mode = va_arg(rest, mode_t);                                \
            va_end(rest);                                               \
            if (watched_path(path) && stopped(1)) return -1;            \
        }                                                               \
        return call;                                                    \
    }
OPEN(open, (const char *path, int flags, ...), REAL(open)(path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), REAL(open64)(path, flags, mode))
OPEN(openat, (int dir, const char *path, int flags, ...), REAL(openat)(dir, path, flags, mode))
OPEN(openat64, (int dir, const char *path, int flags, ...), REAL(openat64)(dir, path, flags, mode))

int close(int fd)
{
    if (fd >= 0 && fd < MAX_FDS) known[fd] = UNKNOWN;
    return REAL(close)(fd);
}
