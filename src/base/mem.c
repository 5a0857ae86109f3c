#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static _Atomic uint64_t allocation_count;
static _Atomic uint64_t fail_countdown; /* 0: no failure is planned */

/* Count one allocation; true if a test wants it to fail. */
static bool should_fail(void)
{
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
    uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (left > 0)
        if (atomic_compare_exchange_weak_explicit(&fail_countdown, &left, left - 1, memory_order_relaxed, memory_order_relaxed))
            return left == 1;
    return false;
}

/* Zero bytes give a unique pointer, so that NULL always means "no memory". */
void *dmc_malloc(size_t bytes)
{
    return should_fail() ? NULL : malloc(bytes ? bytes : 1);
}

void *dmc_calloc(size_t count, size_t bytes)
{
    if (should_fail())
        return NULL;
    return count && bytes ? calloc(count, bytes) : calloc(1, 1);
}

void *dmc_realloc(void *memory, size_t bytes)
{
    return should_fail() ? NULL : realloc(memory, bytes ? bytes : 1);
}

char *dmc_strdup(const char *text)
{
    return should_fail() ? NULL : strdup(text);
}

void dmc_free(void *memory)
{
    free(memory);
}

/* `bytes` in whole pages; 0 if that does not fit. */
static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return bytes > SIZE_MAX - 2 * HUGE_PAGE_BYTES ? 0 : ((bytes ? bytes : 1) + page - 1) / page * page;
}

void *dmc_pages_map(size_t bytes)
{
    size_t length = whole_pages(bytes);
    if (should_fail() || length == 0)
        return NULL;
    /* Huge pages need their own alignment, which older kernels do not choose by themselves: map more and trim. */
    size_t extra = length >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
    char *mapped = mmap(NULL, length + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    if (!extra)
        return mapped;
    size_t head = (HUGE_PAGE_BYTES - (uintptr_t)mapped % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    if (head)
        munmap(mapped, head);
    if (extra - head)
        munmap(mapped + head + length, extra - head);
    madvise(mapped + head, length, MADV_HUGEPAGE); /* a wish: kernels without huge pages may refuse */
    return mapped + head;
}

void dmc_pages_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, whole_pages(bytes));
}

uint64_t dmc_mem_count(void)
{
    return atomic_load_explicit(&allocation_count, memory_order_relaxed);
}

void dmc_mem_fail_at(uint64_t n)
{
    atomic_store_explicit(&fail_countdown, n, memory_order_relaxed);
}
