/* The little XML that S3 answers with: listings and errors. Pure, bounded, fuzzed.
 *
 * Elements, text, character references and the five named entities; a declaration in front; attributes are skipped; comments,
 * CDATA, processing instructions and document types are refused, since no S3 server writes them and each is a way to hide
 * something. */
#ifndef DMC_S3_XML_H
#define DMC_S3_XML_H

#include "damacy/damacy.h"

#define DMC_S3_XML_DEPTH_MAX 8

/* What `visit` is called with for the end of each element that has no elements inside. */
struct dmc_s3_element {
    const char *path; /* names from the root on, without their prefixes: "ListBucketResult/Contents/Key" */
    const char *text; /* decoded, zero-terminated */
    size_t text_bytes;
};

/* The text is decoded in place: `xml` is changed. false from `visit` stops. DECODE for what is not well-formed. */
enum damacy_status dmc_s3_xml(char *xml, size_t bytes, bool (*visit)(void *user, const struct dmc_s3_element *element),
                              void *user, struct damacy_error *error);

#endif
