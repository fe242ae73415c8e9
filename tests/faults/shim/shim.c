/* Preloaded into Tidegate by the fault harness: its wall clock runs as the control file says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)

/* The words of the control file; tests/faults/shim.rs writes them. */
struct control {
    volatile int64_t clock_seconds;
};

static struct control *control;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("TIDEGATE_SHIM_CONTROL");
    if (!path)
        return;
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

/* Waits until a time on the wall clock go by the moved clock as well, as they would if the kernel's had been moved: they
 * are cut into slices, and before each the deadline is looked at anew. Conditions that go by the monotonic clock have
 * deadlines since the boot, which are small. */
#define SLICE_NANOS 20000000L
#define YEAR_2001 1000000000

/* The next slice's end on the true clock. True if it is the deadline itself. */
static int slice(const struct timespec *deadline, struct timespec *end) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    struct timespec wanted = *deadline;
    wanted.tv_sec -= control ? control->clock_seconds : 0;
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

int timespec_get(struct timespec *time, int base) {
    REAL(int, timespec_get, struct timespec *, int);
    int result = real(time, base);
    if (result == TIME_UTC && control)
        time->tv_sec += control->clock_seconds;
    return result;
}
