#include "cli.h"

#include <math.h>
#include <string.h>

#define SHAPE_BYTES 700 /* of 31 axes */

/* --- JSON --- */

static void json_member(FILE *out, const char *name, bool first)
{
    if (!first)
        putc(',', out);
    cli_json_text(out, name);
    putc(':', out);
}

static void json_string(FILE *out, const char *name, const char *text)
{
    json_member(out, name, false);
    cli_json_text(out, text);
}

/* A text that is JSON already; "" becomes null. NaN and its like, which attributes may hold, are no JSON: such a text stays a
 * text. */
static void json_raw(FILE *out, const char *name, const char *text)
{
    json_member(out, name, false);
    if (!text[0])
        fputs("null", out);
    else if (strstr(text, "NaN") || strstr(text, "Infinity"))
        cli_json_text(out, text);
    else
        fputs(text, out);
}

static void json_u64(FILE *out, const char *name, uint64_t value)
{
    json_member(out, name, false);
    fprintf(out, "%llu", (unsigned long long)value);
}

static void json_extents(FILE *out, const char *name, const uint64_t *extents, uint32_t rank)
{
    json_member(out, name, false);
    if (!extents) {
        fputs("null", out);
        return;
    }
    putc('[', out);
    for (uint32_t axis = 0; axis < rank; axis++)
        fprintf(out, "%s%llu", axis ? "," : "", (unsigned long long)extents[axis]);
    putc(']', out);
}

static void json_numbers(FILE *out, const char *name, const double *numbers, uint32_t count)
{
    json_member(out, name, false);
    if (!numbers) {
        fputs("null", out);
        return;
    }
    putc('[', out);
    for (uint32_t i = 0; i < count; i++)
        fprintf(out, isfinite(numbers[i]) ? "%s%.17g" : "%snull", i ? "," : "", numbers[i]);
    putc(']', out);
}

static void json_texts(FILE *out, const char *name, const char *const *texts, uint32_t count)
{
    json_member(out, name, false);
    putc('[', out);
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            putc(',', out);
        cli_json_text(out, texts[i]);
    }
    putc(']', out);
}

static void json_axes(FILE *out, const struct damacy_axis *axes, uint32_t count)
{
    json_member(out, "axes", false);
    putc('[', out);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(out, "%s{", i ? "," : "");
        json_member(out, "name", true);
        cli_json_text(out, axes[i].name);
        json_string(out, "type", axes[i].type);
        json_string(out, "unit", axes[i].unit);
        putc('}', out);
    }
    putc(']', out);
}

static void json_array(FILE *out, const struct damacy_array_info *array)
{
    json_extents(out, "shape", array->shape, array->rank);
    json_extents(out, "chunk_shape", array->chunk_shape, array->rank);
    json_extents(out, "shard_shape", array->shard_shape, array->rank);
    json_string(out, "data_type", array->data_type);
    json_member(out, "dtype", false);
    if (array->dtype == DAMACY_NATIVE)
        fputs("null", out);
    else
        cli_json_text(out, damacy_dtype_str(array->dtype));
    json_u64(out, "bytes", array->bytes);
    json_raw(out, "fill_value", array->fill_value);
    json_raw(out, "codecs", array->codecs);
    json_raw(out, "chunk_grid", array->chunk_grid);
    if (array->chunk_grid[0])
        json_raw(out, "chunk_key_encoding", array->chunk_key_encoding);
    else
        json_string(out, "dimension_separator", array->chunk_key_encoding);
    json_axes(out, array->axes, array->rank);
    json_numbers(out, "scale", array->scale, array->rank);
    json_numbers(out, "translation", array->translation, array->rank);
    if (array->member_count)
        json_texts(out, "members", array->members, array->member_count);
}

static void json_paths(FILE *out, const char *name, const struct damacy_node *const *nodes, uint32_t count)
{
    json_member(out, name, false);
    putc('[', out);
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            putc(',', out);
        cli_json_text(out, nodes[i]->path);
    }
    putc(']', out);
}

static void json_node(FILE *out, const struct damacy_node *node, bool root)
{
    putc('{', out);
    json_member(out, "kind", true);
    cli_json_text(out, damacy_node_kind_str(node->kind));
    json_string(out, "path", node->path);
    json_string(out, "uri", node->uri);
    if (node->zarr_format)
        json_u64(out, "zarr_format", node->zarr_format);
    json_string(out, "status", damacy_status_str(node->status));
    if (node->message[0])
        json_string(out, "message", node->message);
    json_raw(out, "attributes", node->attributes);
    if (node->array)
        json_array(out, node->array);
    if (node->ome_version[0])
        json_string(out, "ome_version", node->ome_version);
    if (node->level_count) {
        json_axes(out, node->axes, node->axis_count);
        json_paths(out, "levels", node->levels, node->level_count);
    }
    if (node->label_count)
        json_paths(out, "labels", node->labels, node->label_count);
    if (node->well_count) {
        json_member(out, "wells", false);
        for (uint32_t i = 0; i < node->well_count; i++) {
            putc(i ? ',' : '[', out);
            cli_json_text(out, node->wells[i].path);
        }
        putc(']', out);
    }
    if (node->field_count)
        json_texts(out, "fields", node->fields, node->field_count);
    if (root) {
        json_u64(out, "array_count", node->array_count);
        json_member(out, "cut", false);
        fputs(node->cut ? "true" : "false", out);
    }
    if (node->child_count) {
        json_member(out, "children", false);
        for (uint64_t i = 0; i < node->child_count; i++) {
            putc(i ? ',' : '[', out);
            json_node(out, node->children[i], false);
        }
        putc(']', out);
    }
    putc('}', out);
}

/* --- text --- */

static void line(const char *name, const char *text)
{
    printf("  %-12s %s\n", name, text);
}

static void print_axes(const struct damacy_axis *axes, uint32_t count)
{
    bool any = false;
    for (uint32_t i = 0; i < count; i++)
        any |= axes[i].name[0] || axes[i].type[0] || axes[i].unit[0];
    if (!any)
        return;
    printf("  %-12s ", "axes");
    for (uint32_t i = 0; i < count; i++) {
        printf("%s%s", i ? ", " : "", axes[i].name[0] ? axes[i].name : "?");
        if (axes[i].type[0] || axes[i].unit[0])
            printf(" (%s%s%s)", axes[i].type, axes[i].type[0] && axes[i].unit[0] ? ", " : "", axes[i].unit);
    }
    putchar('\n');
}

static void print_numbers(const char *name, const double *numbers, uint32_t count)
{
    if (!numbers)
        return;
    printf("  %-12s ", name);
    for (uint32_t i = 0; i < count; i++)
        printf("%s%g", i ? ", " : "", numbers[i]);
    putchar('\n');
}

static void print_array(const struct damacy_array_info *array)
{
    char text[SHAPE_BYTES], size[32];
    line("shape", cli_shape(array->shape, array->rank, text, sizeof text));
    line("chunks", cli_shape(array->chunk_shape, array->rank, text, sizeof text));
    if (array->shard_shape)
        line("shards", cli_shape(array->shard_shape, array->rank, text, sizeof text));
    printf("  %-12s %s", "dtype", array->data_type);
    if (array->dtype != DAMACY_NATIVE)
        printf(", read as %s", damacy_dtype_str(array->dtype));
    putchar('\n');
    if (array->dtype != DAMACY_NATIVE)
        line("size", array->bytes == UINT64_MAX ? "more than 16 EB" : cli_bytes((double)array->bytes, size));
    line("fill", array->fill_value);
    line("codecs", array->codecs);
    print_axes(array->axes, array->rank);
    print_numbers("scale", array->scale, array->rank);
    print_numbers("translation", array->translation, array->rank);
    for (uint32_t i = 0; i < array->member_count; i++)
        line(i ? "" : "members", array->members[i]);
}

/* One line of the tree. */
static void print_child(const struct damacy_node *node, int path_columns)
{
    char shape[SHAPE_BYTES], chunks[SHAPE_BYTES], shards[SHAPE_BYTES];
    printf("  %-*s  %-10s", path_columns, node->path, damacy_node_kind_str(node->kind));
    if (node->array) {
        const struct damacy_array_info *array = node->array;
        printf("  %-8s %s  chunks %s", array->dtype == DAMACY_NATIVE ? array->data_type : damacy_dtype_str(array->dtype),
               cli_shape(array->shape, array->rank, shape, sizeof shape),
               cli_shape(array->chunk_shape, array->rank, chunks, sizeof chunks));
        if (array->shard_shape)
            printf("  shards %s", cli_shape(array->shard_shape, array->rank, shards, sizeof shards));
    }
    if (node->well_count)
        printf("  %u wells", node->well_count);
    if (node->field_count)
        printf("  %u fields", node->field_count);
    if (node->status)
        printf("  %s: %s", damacy_status_str(node->status), node->message);
    putchar('\n');
}

static int longest_path(const struct damacy_node *node)
{
    int longest = 0;
    for (uint64_t i = 0; i < node->child_count; i++) {
        int own = (int)strlen(node->children[i]->path), below = longest_path(node->children[i]);
        longest = own > longest ? own : longest;
        longest = below > longest ? below : longest;
    }
    return longest > 60 ? 60 : longest;
}

static void print_children(const struct damacy_node *node, int path_columns)
{
    for (uint64_t i = 0; i < node->child_count; i++) {
        print_child(node->children[i], path_columns);
        print_children(node->children[i], path_columns);
    }
}

static void print_levels(const struct damacy_node *node)
{
    char shape[SHAPE_BYTES], chunks[SHAPE_BYTES];
    for (uint32_t i = 0; i < node->level_count; i++) {
        const struct damacy_node *level = node->levels[i];
        printf("  %-12s %u: %s", i ? "" : "levels", i, level->path);
        if (level->array) {
            const struct damacy_array_info *array = level->array;
            printf("  %s  %s  chunks %s", array->dtype == DAMACY_NATIVE ? array->data_type : damacy_dtype_str(array->dtype),
                   cli_shape(array->shape, array->rank, shape, sizeof shape),
                   cli_shape(array->chunk_shape, array->rank, chunks, sizeof chunks));
            for (uint32_t axis = 0; array->scale && axis < array->rank; axis++)
                printf("%s%g", axis ? ", " : "  scale ", array->scale[axis]);
        }
        if (level->status)
            printf("  %s: %s", damacy_status_str(level->status), level->message);
        putchar('\n');
    }
}

static void print_node(const struct damacy_node *node)
{
    char shown[DAMACY_URI_BYTES_MAX + 1];
    damacy_uri_shown(node->uri, shown, sizeof shown);
    printf("%s\n  %-12s %s", shown, "kind", damacy_node_kind_str(node->kind));
    if (node->ome_version[0])
        printf(", OME-Zarr %s", node->ome_version);
    if (node->zarr_format)
        printf(", Zarr v%u", node->zarr_format);
    putchar('\n');
    if (node->status)
        printf("  %-12s %s: %s\n", "problem", damacy_status_str(node->status), node->message);
    if (node->array)
        print_array(node->array);
    if (node->level_count) {
        print_axes(node->axes, node->axis_count);
        print_levels(node);
    }
    for (uint32_t i = 0; i < node->label_count; i++)
        line(i ? "" : "labels", node->labels[i]->path);
    for (uint32_t i = 0; i < node->well_count; i++)
        line(i ? "" : "wells", node->wells[i].path);
    for (uint32_t i = 0; i < node->field_count; i++)
        line(i ? "" : "fields", node->fields[i]);
    if (strcmp(node->attributes, "{}") != 0)
        printf("  %-12s %.2000s%s\n", "attributes", node->attributes, strlen(node->attributes) > 2000 ? "..." : "");
    if (!node->array)
        printf("  %-12s %llu\n", "arrays", (unsigned long long)node->array_count);
    if (!node->level_count)
        print_children(node, longest_path(node));
    if (node->cut)
        fprintf(stderr, "damacy: there may be more: %s\n", node->message);
}

/* --- the command --- */

static bool go_on(void *user)
{
    (void)user;
    return !cli_interrupted();
}

int cli_info(struct cli_arguments *arguments)
{
    struct damacy_open_options options = DAMACY_OPEN_OPTIONS_INIT;
    options.poll = go_on;
    const char *uri = NULL, *value;
    bool json = false;
    while (arguments->at < arguments->end) {
        const char *text;
        if (cli_option(arguments, "--json", NULL)) {
            json = true;
        } else if (cli_option(arguments, "--shallow", NULL)) {
            options.shallow = true;
        } else if (cli_option(arguments, "--wells", NULL)) {
            options.wells = true;
        } else if (cli_option(arguments, "--timeout", &value)) {
            if (!cli_read_seconds(value, &options.timeout_ns))
                return cli_usage("--timeout wants seconds, not '%s'", value);
        } else if (cli_option(arguments, "--storage-options", &value)) {
            options.storage_options = value;
        } else if ((text = cli_positional(arguments))) {
            if (uri)
                return cli_usage("info takes one uri, not '%s' as well", text);
            uri = text;
        } else if (strcmp(*arguments->at, "--") == 0) {
            break;
        } else {
            return cli_usage("info has no option '%s'", *arguments->at);
        }
    }
    if (!uri)
        return cli_usage("info wants a uri");
    struct damacy_node *node;
    struct damacy_error error;
    if (damacy_open(uri, &options, &node, &error))
        return cli_fail(&error);
    if (json) {
        json_node(stdout, node, true);
        putchar('\n');
    } else {
        print_node(node);
    }
    damacy_node_free(node);
    return CLI_OK;
}
