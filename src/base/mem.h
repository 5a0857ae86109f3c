/* All heap memory of the library comes from here, so that tests can make the n-th allocation fail and count them. */
#ifndef DMC_BASE_MEM_H
#define DMC_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* As malloc, calloc, realloc, strdup and free; NULL when memory is short or a test says so. */
void *dmc_malloc(size_t bytes);
void *dmc_calloc(size_t count, size_t bytes);
void *dmc_realloc(void *memory, size_t bytes);
char *dmc_strdup(const char *text);
void dmc_free(void *memory);

/* Large page-aligned buffers straight from mmap, zeroed, with transparent huge pages asked for from 2 MiB on. The pages are
 * touched on first use, not here. `bytes` must be repeated at the unmap. */
void *dmc_pages_map(size_t bytes);
void dmc_pages_unmap(void *memory, size_t bytes);

/* Allocations (dmc_malloc, _calloc, _realloc, _strdup, _pages_map) so far in this process. */
uint64_t dmc_mem_count(void);

/* Tests: the n-th allocation from now (1: the next) fails, once. 0 switches it off. */
void dmc_mem_fail_at(uint64_t n);

#endif
