/* What the guest's kernel needs on a processor whose registers are more than it knows of. Loaded before its libc (vm.py).
 *
 * User-mode Linux 6.1 keeps the registers of its processes in 2696 bytes: all up to AVX-512. A host with AMX has 11008, and
 * takes nothing less when they are set (EFAULT, at which the guest's kernel panics as it starts its first process). So what is
 * set is made whole here. Nobody in the guest has tiles: they need leave, which its kernel has no call for.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { HEADER = 512, LEGACY = 3, FEATURES = 63 };

static _Alignas(64) char whole[1 << 16]; /* the stacks of the guest's kernel are small */
static size_t size;                      /* of all registers of this host, once it has said so */

/* Which features lie in the first `given` bytes; their places are the processor's. */
static unsigned long long features(size_t given) {
    unsigned long long found = LEGACY;
    unsigned bytes, offset, flags, reserved;
    for (unsigned feature = 2; feature < FEATURES; feature++) {
        __cpuid_count(0xd, feature, bytes, offset, flags, reserved);
        if (bytes > 0 && offset > 0 && offset + bytes <= given)
            found |= 1ULL << feature;
    }
    return found;
}

long ptrace(enum __ptrace_request request, ...) {
    static long (*real)(enum __ptrace_request, ...);
    static unsigned long long known;
    static size_t known_of;
    va_list rest;
    va_start(rest, request);
    pid_t process = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *), *data = va_arg(rest, void *);
    va_end(rest);

    if (real == NULL)
        real = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
    if (address != (void *)NT_X86_XSTATE || (request != PTRACE_GETREGSET && request != PTRACE_SETREGSET))
        return real(request, process, address, data);

    struct iovec *given = data, all = {whole, sizeof whole};
    if (size == 0 && real(PTRACE_GETREGSET, process, address, &all) == 0)
        size = all.iov_len;
    if (request == PTRACE_GETREGSET || given->iov_len >= size)
        return real(request, process, address, data); /* what is read may be cut off */

    if (known_of != given->iov_len) { /* the question is slow: an instruction that a hypervisor answers */
        known_of = given->iov_len;
        known = features(known_of);
        memset(whole, 0, size);
    }
    memcpy(whole, given->iov_base, given->iov_len);
    unsigned long long there;
    memcpy(&there, whole + HEADER, sizeof there);
    there &= known;
    memcpy(whole + HEADER, &there, sizeof there);
    all.iov_len = size;
    return real(request, process, address, &all);
}
