/* See s3_list.h. */
#include "store/s3_list.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/s3_xml.h"

#include <string.h>

/* A page has up to 1000 keys of up to 1024 bytes, each of which may take six as a character reference. */
#define PAGE_BYTES_MAX (8u << 20)

static bool take_child(struct dmc_s3_page *page, const struct dmc_s3_element *element, bool is_prefix)
{
    size_t prefix_bytes = strlen(page->prefix), bytes = element->text_bytes;
    if (bytes <= prefix_bytes || memcmp(element->text, page->prefix, prefix_bytes) != 0)
        return true;                                              /* the marker of the folder itself, or not ours */
    char *name = (char *)(uintptr_t)element->text + prefix_bytes; /* in the page, which is ours to change */
    bytes -= prefix_bytes;
    if (is_prefix && name[bytes - 1] == '/')
        name[--bytes] = 0;
    if (bytes == 0 || strlen(name) != bytes || strchr(name, '/'))
        return true;
    if (++page->count > DMC_STORE_LIST_MAX) {
        page->too_many = true;
        return false;
    }
    page->enough = !page->child(name, is_prefix, page->user);
    return !page->enough;
}

static bool take_element(void *user, const struct dmc_s3_element *element)
{
    struct dmc_s3_page *page = user;
    if (strcmp(element->path, "ListBucketResult/Contents/Key") == 0)
        return take_child(page, element, false);
    if (strcmp(element->path, "ListBucketResult/CommonPrefixes/Prefix") == 0)
        return take_child(page, element, true);
    if (strcmp(element->path, "ListBucketResult/IsTruncated") == 0)
        page->truncated = strcmp(element->text, "true") == 0;
    else if (strcmp(element->path, "ListBucketResult/NextContinuationToken") == 0 && element->text_bytes < sizeof page->next)
        memcpy(page->next, element->text, element->text_bytes + 1);
    return true;
}

enum damacy_status dmc_s3_page_read(char *xml, size_t bytes, struct dmc_s3_page *page, struct damacy_error *error)
{
    page->truncated = false;
    page->next[0] = 0;
    return dmc_s3_xml(xml, bytes, take_element, page, error);
}

static enum damacy_status read_page(struct dmc_net_store *store, const char *continuation, char *buffer,
                                    struct dmc_s3_page *page, bool *there, struct damacy_error *error)
{
    struct dmc_text query = {0};
    if (continuation[0]) { /* names in order, as the signature wants them */
        dmc_text_add(&query, "continuation-token=");
        dmc_text_encoded(&query, continuation, strlen(continuation), false);
        dmc_text_add(&query, "&");
    }
    dmc_text_add(&query, "delimiter=%2F&list-type=2&max-keys=1000&prefix=");
    dmc_text_encoded(&query, page->prefix, strlen(page->prefix), false);
    enum damacy_status status = DAMACY_OK;
    uint64_t bytes = 0;
    enum dmc_outcome outcome = DMC_OUTCOME_OK;
    if (query.failed)
        status = dmc_error_set(error, DAMACY_OOM, "list", "no memory to list a bucket");
    else
        status = dmc_net_fetch(store, "", query.data, buffer, PAGE_BYTES_MAX, &bytes, &outcome, error);
    dmc_text_free(&query);
    if (status != DAMACY_OK)
        return status;
    if (outcome == DMC_OUTCOME_TOO_LONG)
        return dmc_error_set(error, DAMACY_BUDGET, "list", "a page of the listing is longer than %u bytes", PAGE_BYTES_MAX);
    *there = outcome == DMC_OUTCOME_OK;
    return *there ? dmc_s3_page_read(buffer, bytes, page, error) : DAMACY_OK;
}

enum damacy_status dmc_s3_list(struct dmc_net_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                               struct damacy_error *error)
{
    struct dmc_text full = {0};
    dmc_text_add(&full, prefix + (prefix[0] == '/'));
    if (full.length > 0)
        dmc_text_add(&full, "/");
    char *buffer = dmc_pages_map(PAGE_BYTES_MAX); /* touched as far as the answer is long */
    struct dmc_s3_page *page = dmc_calloc(1, sizeof *page);
    enum damacy_status status = DAMACY_OK;
    if (full.failed || !buffer || !page)
        status = dmc_error_set(error, DAMACY_OOM, "list", "no memory to list a bucket");
    char continuation[DMC_S3_MARKER_BYTES] = "";
    bool there = true;
    if (status == DAMACY_OK) {
        page->prefix = full.data;
        page->child = child;
        page->user = user;
    }
    while (status == DAMACY_OK) {
        uint64_t before = page->count;
        status = read_page(store, continuation, buffer, page, &there, error);
        if (status != DAMACY_OK || !there || page->enough || page->too_many || !page->truncated)
            break;
        /* A server that turns the same page over and over must not keep us for ever. */
        if (!page->next[0] || (strcmp(page->next, continuation) == 0 && page->count == before)) {
            status = dmc_error_set(error, DAMACY_IO, "list", "the server says that the listing goes on, but not where");
            break;
        }
        memcpy(continuation, page->next, sizeof continuation);
    }
    if (status == DAMACY_OK && page->too_many)
        status = dmc_error_set(error, DAMACY_BUDGET, "list", "more than %u children", DMC_STORE_LIST_MAX);
    dmc_text_free(&full);
    dmc_pages_unmap(buffer, PAGE_BYTES_MAX);
    dmc_free(page);
    return status;
}
