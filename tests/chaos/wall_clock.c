/* Shifts the wall clock of the process it is preloaded into, by as many nanoseconds as the file that CHAOS_CLOCK names
 * holds (eight bytes, native order). The file is mapped, so a jump is seen at once. Clocks that only run forward, and
 * the clock of everybody else, stay as they are: that is what a jump of a machine's clock looks like from inside.
 *
 * Deadlines on the wall clock are shifted back for the kernel. A wait that has begun is not cut short by a jump.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static volatile int64_t *shift;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_semaphore_wait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED)
        shift = map;
    if (file >= 0)
        close(file);
}

static void add(struct timespec *at, int64_t nanoseconds) {
    int64_t whole = (int64_t)at->tv_sec * SECOND + at->tv_nsec + nanoseconds;
    at->tv_sec = whole / SECOND;
    at->tv_nsec = whole % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!real_gettime)
        real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real_gettime(clock, at);
    if (status == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add(at, *shift);
    return status;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    struct timespec real = *until;
    if (!real_semaphore_wait)
        real_semaphore_wait = dlsym(RTLD_NEXT, "sem_timedwait");
    if (shift)
        add(&real, -*shift);
    return real_semaphore_wait(semaphore, &real);
}
