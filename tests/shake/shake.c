/* Loaded before libc by tests/shake/run: calls on sockets and files pause now and then, before and after, as on a machine
 * that is busy with something else at that moment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static unsigned one_in = 100, most_ms = 15;
static const char *calls, *program;

__attribute__((constructor)) static void read_settings(void) {
    const char *text;
    if ((text = getenv("SHAKE_ONE_IN")) && atoi(text) > 0) one_in = atoi(text);
    if ((text = getenv("SHAKE_MOST_MS")) && atoi(text) > 0) most_ms = atoi(text);
    calls = getenv("SHAKE_CALLS");
    program = getenv("SHAKE_PROGRAM");
    if (program && strncmp(program_invocation_short_name, program, strlen(program))) calls = "";
}

/* Xorshift, of each thread its own. */
static uint64_t draw(void) {
    static __thread uint64_t state;
    if (!state) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        state = ((uint64_t)now.tv_nsec * 6364136223846793005u ^ (uintptr_t)&state ^ (uint64_t)getpid() << 32) | 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void shake(const char *call) {
    uint64_t drawn = draw() >> 16;
    if (drawn % one_in || (calls && !strstr(calls, call))) return;
    int before = errno;
    uint64_t ms = 1 + drawn / one_in % most_ms;
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
    errno = before;
}

#define SHAKEN(type, name, parameters, arguments)            \
    type name parameters {                                   \
        static type(*real) parameters;                       \
        if (!real) real = dlsym(RTLD_NEXT, #name);           \
        shake(#name);                                        \
        type result = real arguments;                        \
        shake(#name);                                        \
        return result;                                       \
    }

SHAKEN(int, accept4, (int fd, struct sockaddr *from, socklen_t *size, int flags), (fd, from, size, flags))
SHAKEN(int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
SHAKEN(int, close, (int fd), (fd))
SHAKEN(int, shutdown, (int fd, int how), (fd, how))
SHAKEN(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
SHAKEN(ssize_t, readv, (int fd, const struct iovec *to, int count), (fd, to, count))
SHAKEN(ssize_t, recv, (int fd, void *to, size_t size, int flags), (fd, to, size, flags))
SHAKEN(ssize_t, recvmsg, (int fd, struct msghdr *to, int flags), (fd, to, flags))
SHAKEN(ssize_t, send, (int fd, const void *from, size_t size, int flags), (fd, from, size, flags))
SHAKEN(ssize_t, sendmsg, (int fd, const struct msghdr *from, int flags), (fd, from, flags))
SHAKEN(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
SHAKEN(ssize_t, writev, (int fd, const struct iovec *from, int count), (fd, from, count))
