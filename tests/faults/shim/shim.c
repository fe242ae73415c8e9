/* Preloaded into Tidegate by the fault harness.
 *
 * Clock: the process sees the wall clock as far from the true one as the control file says.
 *
 * Disk: every operation that changes something under one directory is counted, noted in a trace, and may go wrong: the
 * process is killed before it, within it or after it, or it fails, or it writes half. Which one is said in the control
 * file, which is shared memory: it can be changed while the process runs, and counts go on in the next process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)
#define TRACE_AT 4096
#define TRACE_ENTRY 128
#define TRACE_ENTRIES ((SIZE - TRACE_AT) / TRACE_ENTRY)
#define FILES 4096

/* The words of the control file; tests/faults/shim.rs has the same. */
struct control {
    volatile int64_t clock_seconds;
    volatile int64_t action;  /* 0: nothing */
    volatile int64_t kinds;   /* bits of the kinds that are meant */
    volatile int64_t number;  /* the first one that is meant, from 1, among those of these kinds */
    volatile int64_t times;   /* how many in a row; -1: all */
    volatile int64_t matched; /* operations of these kinds so far */
    volatile int64_t fired;   /* how many of them went wrong */
    volatile int64_t total;   /* operations of all kinds so far */
};

enum kind { WRITE, SYNC, CREATE, RENAME, REMOVE, TRUNCATE, MAKE_DIRECTORY };
static const char *const kinds[] = {"write", "sync", "create", "rename", "remove", "truncate", "mkdir"};

/* What happens to an operation; from FAIL on, it fails with that error. */
enum { NOTHING, KILL_BEFORE, KILL_WITHIN, KILL_AFTER, WRITE_HALF, FAIL = 100 };

static struct control *control;
static const char *directory;
static size_t directory_length;
static volatile char ours[FILES];

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("TIDEGATE_SHIM_CONTROL");
    directory = getenv("TIDEGATE_SHIM_DIRECTORY");
    if (!path || !directory)
        return;
    directory_length = strlen(directory);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        control = memory;
}

/* The next definition of a function, found at its first call. */
#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real)                                                                                                         \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

/* ---- disk ---- */

static int is_ours(const char *path) {
    return control && path && strncmp(path, directory, directory_length) == 0;
}

static int is_our_file(int file) { return control && file >= 0 && file < FILES && ours[file]; }

static void name_of(int file, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, size - 1);
    name[length < 0 ? 0 : length] = 0;
}

/* Counts an operation and says what is to happen to it. */
static int64_t next(enum kind kind, const char *path) {
    int64_t place = __sync_fetch_and_add(&control->total, 1);
    char *entry = (char *)control + TRACE_AT + place % TRACE_ENTRIES * TRACE_ENTRY;
    const char *rest = strlen(path) > directory_length ? path + directory_length + 1 : ".";
    snprintf(entry, TRACE_ENTRY, "%s %s", kinds[kind], rest);
    if (!control->action || !(control->kinds & 1 << kind))
        return NOTHING;
    int64_t number = __sync_add_and_fetch(&control->matched, 1);
    if (number < control->number || (control->times >= 0 && number >= control->number + control->times))
        return NOTHING;
    __sync_fetch_and_add(&control->fired, 1);
    return control->action;
}

static int64_t next_of(enum kind kind, int file) {
    char path[512];
    name_of(file, path, sizeof path);
    return next(kind, path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* What every operation but a write has around it. */
#define AROUND(what, call)                                                                                             \
    do {                                                                                                               \
        int64_t todo = what;                                                                                           \
        if (todo == KILL_BEFORE || todo == KILL_WITHIN)                                                                \
            die();                                                                                                     \
        if (todo >= FAIL) {                                                                                            \
            errno = (int)(todo - FAIL);                                                                                \
            return -1;                                                                                                 \
        }                                                                                                              \
        int result = call;                                                                                             \
        if (todo == KILL_AFTER)                                                                                        \
            die();                                                                                                     \
        return result;                                                                                                 \
    } while (0)

static int remember(int file) {
    if (file >= 0 && file < FILES && control) {
        char path[512];
        int error = errno;
        name_of(file, path, sizeof path);
        ours[file] = is_ours(path);
        errno = error;
    }
    return file;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        REAL(int, name, const char *, int, ...);                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        /* A file that is there already is opened, not created. */                                                     \
        if (!is_ours(path) || !(flags & O_CREAT) || access(path, F_OK) == 0)                                           \
            return remember(real(path, flags, mode));                                                                  \
        AROUND(next(CREATE, path), remember(real(path, flags, mode)));                                                 \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    REAL(int, close, int);
    if (file >= 0 && file < FILES)
        ours[file] = 0;
    return real(file);
}

/* Half of what is to be written, as pieces. */
static int half(const struct iovec *pieces, int count, struct iovec *some) {
    size_t all = 0;
    for (int i = 0; i < count; i++)
        all += pieces[i].iov_len;
    size_t left = (all + 1) / 2;
    int taken = 0;
    for (int i = 0; i < count && left > 0 && taken < 16; i++) {
        some[taken] = pieces[i];
        if (some[taken].iov_len > left)
            some[taken].iov_len = left;
        left -= some[taken++].iov_len;
    }
    return taken;
}

/* A write, whatever it is called; at -1: where the file stands. */
static ssize_t put(int file, const struct iovec *pieces, int count, off_t at) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    static ssize_t (*real_writev)(int, const struct iovec *, int);
    if (!real_writev)
        *(void **)&real_writev = dlsym(RTLD_NEXT, "writev");
    struct iovec some[16];
    int64_t todo = is_our_file(file) ? next_of(WRITE, file) : NOTHING;
    if (todo == KILL_BEFORE)
        die();
    if (todo >= FAIL) {
        errno = (int)(todo - FAIL);
        return -1;
    }
    if (todo == KILL_WITHIN || todo == WRITE_HALF) {
        count = half(pieces, count, some);
        pieces = some;
    }
    ssize_t result = at < 0 ? real_writev(file, pieces, count) : real(file, pieces, count, at);
    if (todo == KILL_WITHIN || todo == KILL_AFTER)
        die();
    return result;
}

#define ONE(data, size)                                                                                                \
    { .iov_base = (void *)data, .iov_len = size }

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct iovec piece = ONE(data, size);
    return is_our_file(file) ? put(file, &piece, 1, -1) : real(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    struct iovec piece = ONE(data, size);
    return put(file, &piece, 1, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) { return pwrite(file, data, size, at); }

ssize_t writev(int file, const struct iovec *pieces, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return is_our_file(file) ? put(file, pieces, count, -1) : real(file, pieces, count);
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t at) { return put(file, pieces, count, at); }

ssize_t pwritev64(int file, const struct iovec *pieces, int count, off64_t at) { return put(file, pieces, count, at); }

#define SYNC_OF(name)                                                                                                  \
    int name(int file) {                                                                                               \
        REAL(int, name, int);                                                                                          \
        if (!is_our_file(file))                                                                                        \
            return real(file);                                                                                         \
        AROUND(next_of(SYNC, file), real(file));                                                                       \
    }
SYNC_OF(fsync)
SYNC_OF(fdatasync)

#define TRUNCATE_OF(name, type)                                                                                        \
    int name(int file, type size) {                                                                                    \
        REAL(int, name, int, type);                                                                                    \
        if (!is_our_file(file))                                                                                        \
            return real(file, size);                                                                                   \
        AROUND(next_of(TRUNCATE, file), real(file, size));                                                             \
    }
TRUNCATE_OF(ftruncate, off_t)
TRUNCATE_OF(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (!is_ours(from))
        return real(from, to);
    AROUND(next(RENAME, from), real(from, to));
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (!is_ours(path))
        return real(path);
    AROUND(next(REMOVE, path), real(path));
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    if (!is_ours(path))
        return real(path, mode);
    AROUND(next(MAKE_DIRECTORY, path), real(path, mode));
}

/* ---- clock ---- */

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int result = real(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && control)
        time->tv_sec += control->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *time, void *zone) {
    REAL(int, gettimeofday, struct timeval *, void *);
    int result = real(time, zone);
    if (result == 0 && control)
        time->tv_sec += control->clock_seconds;
    return result;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
    REAL(int, timespec_get, struct timespec *, int);
    int result = real(time, base);
    if (result == TIME_UTC && control)
        time->tv_sec += control->clock_seconds;
    return result;
}

/* Waits until a time on the wall clock go by the moved clock as well, as they would if the kernel's had been moved: they
 * are cut into slices, and before each the deadline is looked at anew. Conditions that go by the monotonic clock have
 * deadlines since the boot, which are small. */
#define SLICE_NANOS 20000000L
#define YEAR_2001 1000000000

/* The next slice's end on the true clock. True if it is the deadline itself. */
static int slice(const struct timespec *deadline, struct timespec *end) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    struct timespec wanted = *deadline;
    wanted.tv_sec -= control->clock_seconds;
    real(CLOCK_REALTIME, end);
    end->tv_nsec += SLICE_NANOS;
    if (end->tv_nsec >= 1000000000L) {
        end->tv_nsec -= 1000000000L;
        end->tv_sec++;
    }
    if (wanted.tv_sec > end->tv_sec || (wanted.tv_sec == end->tv_sec && wanted.tv_nsec > end->tv_nsec))
        return 0;
    *end = wanted;
    return 1;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline) {
    REAL(int, pthread_cond_timedwait, pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!control || deadline->tv_sec < YEAR_2001)
        return real(condition, mutex, deadline);
    for (;;) {
        struct timespec end;
        int last = slice(deadline, &end);
        int result = real(condition, mutex, &end);
        if (result != ETIMEDOUT || last)
            return result;
    }
}

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *deadline) {
    REAL(int, cnd_timedwait, cnd_t *, mtx_t *, const struct timespec *);
    if (!control)
        return real(condition, mutex, deadline);
    for (;;) {
        struct timespec end;
        int last = slice(deadline, &end);
        int result = real(condition, mutex, &end);
        if (result != thrd_timedout || last)
            return result;
    }
}
