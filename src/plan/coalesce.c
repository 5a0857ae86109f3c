#include "plan/coalesce.h"

#include "base/bytes.h"

/* Runs of this many keys are sorted by insertion before merging. */
#define RUN 8

static inline bool key_before(const struct dmc_plan_key *a, const struct dmc_plan_key *b)
{
    /* As one wide number: a compare without branches, since which key comes first is a coin toss inside a shard. */
    unsigned __int128 x = (unsigned __int128)a->object << 64 | a->offset;
    unsigned __int128 y = (unsigned __int128)b->object << 64 | b->offset;
    return x < y;
}

static void sort_run(struct dmc_plan_key *keys, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct dmc_plan_key key = keys[i];
        uint32_t at = i;
        for (; at > 0 && key_before(&key, &keys[at - 1]); at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

static void merge(const struct dmc_plan_key *left, const struct dmc_plan_key *left_end, const struct dmc_plan_key *right,
                  const struct dmc_plan_key *right_end, struct dmc_plan_key *out)
{
    while (left < left_end && right < right_end) {
        bool take_right = key_before(right, left);
        *out++ = take_right ? *right : *left;
        right += take_right;
        left += !take_right;
    }
    while (left < left_end)
        *out++ = *left++;
    while (right < right_end)
        *out++ = *right++;
}

void dmc_plan_keys_sort(struct dmc_plan_key *keys, struct dmc_plan_key *scratch, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += RUN)
        sort_run(keys + i, count - i < RUN ? count - i : RUN);
    for (uint64_t width = RUN; width < count; width *= 2) {
        for (uint64_t begin = 0; begin + width < count; begin += 2 * width) {
            uint64_t middle = begin + width, end = dmc_min_u64(middle + width, count);
            if (!key_before(&keys[middle], &keys[middle - 1]))
                continue; /* in order already, as chunks of arrays written in C order are */
            memcpy(scratch, keys + begin, width * sizeof *keys);
            merge(scratch, scratch + width, keys + middle, keys + end, keys + begin);
        }
    }
}

struct dmc_read dmc_read_of(const struct dmc_plan_work *work, const struct dmc_plan_key *keys, uint32_t at)
{
    const struct dmc_plan_unit *unit = &work->units[keys[at].id];
    return (struct dmc_read){.object = keys[at].object,
                             .chunk_begin = at,
                             .chunk_end = at + 1,
                             .whole = unit->whole,
                             .offset = unit->offset,
                             .length = unit->length};
}

uint32_t dmc_coalesce(const struct dmc_plan_work *work, const struct dmc_plan_key *keys, uint32_t count, struct dmc_read *reads)
{
    uint32_t read_count = 0;
    const struct dmc_plan_limits *limits = NULL; /* of the last read's array */
    for (uint32_t i = 0; i < count; i++) {
        const struct dmc_plan_unit *unit = &work->units[keys[i].id];
        uint64_t unit_end = unit->offset + unit->length;
        struct dmc_read *read = read_count ? &reads[read_count - 1] : NULL;
        if (read && read->object == keys[i].object) {
            uint64_t read_end = read->offset + read->length, joined_end = dmc_max_u64(read_end, unit_end);
            bool near = unit->offset <= read_end || dmc_plan_gap_small(unit->offset - read_end, limits->gap_bytes);
            bool same = unit->offset == read->offset && unit_end == read_end;
            if (same || (near && joined_end - read->offset <= limits->read_bytes_max)) {
                read->length = joined_end - read->offset;
                read->chunk_end = i + 1;
                continue;
            }
        } else {
            limits = &work->table.objects[keys[i].object].array->limits;
        }
        reads[read_count++] = dmc_read_of(work, keys, i);
    }
    return read_count;
}
