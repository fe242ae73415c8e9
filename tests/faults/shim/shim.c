/* Preloaded into Tidegate by the fault harness: its wall clock runs as the control file says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
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
