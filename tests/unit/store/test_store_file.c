/* Goal: files that are odd, change, are many or huge, and a process out of descriptors, give a clear answer and never a wait.
 * Method: real files in a temporary folder; RLIMIT_NOFILE lowered; page cache dropped so that reads do block. */
#include "store_fixture.h"

#include "base/mem.h"
#include "store/file_handles.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct dmc_store *file_store(uint32_t open_files_max)
{
    struct dmc_store_file_options options = {.open_files_max = open_files_max};
    struct dmc_store *store = NULL;
    assert_int_equal(dmc_store_file_create(&options, &store, NULL), DAMACY_OK);
    return store;
}

static uint32_t descriptors_open(void)
{
    uint32_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count - 1;
}

static void expect_refused(const char *path, const char *word)
{
    struct dmc_store *store = file_store(4);
    struct dmc_io *io = io_make(4, false);
    for (int kind = 0; kind < 3; kind++) {
        char data[16];
        struct one_read read;
        struct dmc_request *request = prepare(&read, store, path, (enum dmc_range_kind)kind, 0, data, sizeof data);
        assert_int_equal(dmc_store_start(io, request), DMC_START_DONE);
        assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
        assert_int_equal(request->status, DAMACY_IO);
        assert_int_equal(read.error.status, DAMACY_IO);
        if (!strstr(read.error.message, word))
            fail_msg("'%s' does not say '%s'", read.error.message, word);
        /* Without an error struct, too. */
        request->error = NULL;
        assert_int_equal(dmc_store_start(io, request), DMC_START_DONE);
        assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    }
    io_end(io);
    dmc_store_destroy(store);
}

static void test_what_is_no_file_is_refused(void **state)
{
    (void)state;
    char path[400];
    uint32_t before = descriptors_open();
    assert_int_equal(mkfifo(in_folder(path, sizeof path, "fifo"), 0600), 0);
    expect_refused(path, "FIFO");
    assert_int_equal(mkdir(in_folder(path, sizeof path, "folder"), 0700), 0);
    expect_refused(path, "folder");
    expect_refused("/dev/zero", "device");
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    in_folder(path, sizeof path, "socket");
    assert_true(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    expect_refused(path, "socket");
    close(listener);
    assert_int_equal(symlink("loop", in_folder(path, sizeof path, "loop")), 0);
    expect_refused(path, "symbolic links");
    char longest[600];
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = 0;
    expect_refused(longest, "too long");
    if (geteuid() != 0) {
        write_file(in_folder(path, sizeof path, "secret"), 1, 10);
        assert_int_equal(chmod(path, 0), 0);
        expect_refused(path, "denied");
    }
    assert_int_equal(descriptors_open(), before);
}

static void test_files_that_change_while_open(void **state)
{
    (void)state;
    char path[400];
    unsigned char data[9000];
    struct one_read read;
    struct dmc_store *store = file_store(4);
    struct dmc_io *io = io_make(4, false);
    write_file(in_folder(path, sizeof path, "changing"), 5, 8192);
    read_span(&read, io, store, path, 4096, data, 4096);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    uint64_t version = read.request.version_tag;

    /* Shorter: what is gone is TRUNCATED, with the size as it is now. */
    assert_int_equal(truncate(path, 5000), 0);
    read_span(&read, io, store, path, 4096, data, 4096);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(read.request.bytes_read, 904);
    assert_int_equal(read.request.object_bytes, 5000);
    assert_true(read.request.version_tag != version);
    complete(io, prepare(&read, store, path, DMC_RANGE_SUFFIX, 0, data, 10));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_true(bytes_match(data, 5, 4990, 10));

    /* Longer: WHOLE and SUFFIX see it. */
    write_file(path, 6, 8500);
    complete(io, prepare(&read, store, path, DMC_RANGE_WHOLE, 0, data, sizeof data));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_int_equal(read.request.bytes_read, 8500);
    assert_true(bytes_match(data, 6, 0, 8500));
    complete(io, prepare(&read, store, path, DMC_RANGE_WHOLE, 0, data, 8499));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_TOO_LONG);

    /* Removed: whoever has it open reads on; a store that has not says ABSENT. */
    assert_int_equal(unlink(path), 0);
    read_span(&read, io, store, path, 100, data, 100);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_true(bytes_match(data, 6, 100, 100));
    struct dmc_store *other = file_store(4);
    read_span(&read, io, other, path, 100, data, 100);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
    dmc_store_destroy(other);
    io_end(io);
    dmc_store_destroy(store);
}

/* A file without a size that has bytes: WHOLE reads until the end. */
static void test_file_without_size(void **state)
{
    (void)state;
    char data[4096];
    struct one_read read;
    struct dmc_store *store = file_store(4);
    struct dmc_io *io = io_make(4, false);
    complete(io, prepare(&read, store, "/proc/self/status", DMC_RANGE_WHOLE, 0, data, sizeof data));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_true(read.request.bytes_read > 100);
    assert_memory_equal(data, "Name:", 5);
    complete(io, prepare(&read, store, "/proc/self/status", DMC_RANGE_WHOLE, 0, data, 10));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_TOO_LONG);
    io_end(io);
    dmc_store_destroy(store);
}

static void test_sparse_file_of_10_gib(void **state)
{
    (void)state;
    static unsigned char data[100000];
    const uint64_t size = 10ull << 30, mark = 7ull << 30;
    char path[400];
    int fd = open(in_folder(path, sizeof path, "sparse"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(pwrite(fd, "mark", 4, (off_t)mark), 4);
    close(fd);
    struct dmc_store *store = file_store(4);
    for (int pool = 0; pool < 2; pool++) {
        struct dmc_io *io = io_make(4, pool);
        struct one_read read;
        drop_file(path);
        read_span(&read, io, store, path, mark - 2, data, 8);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(read.request.object_bytes, size);
        assert_memory_equal(data, "\0\0mark\0\0", 8);
        memset(data, 1, sizeof data);
        read_span(&read, io, store, path, size - sizeof data, data, sizeof data);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        for (size_t i = 0; i < sizeof data; i++)
            assert_int_equal(data[i], 0);
        complete(io, prepare(&read, store, path, DMC_RANGE_SUFFIX, 0, data, 16));
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        complete(io, prepare(&read, store, path, DMC_RANGE_WHOLE, 0, data, sizeof data));
        assert_int_equal(read.request.outcome, DMC_OUTCOME_TOO_LONG);
        assert_int_equal(read.request.object_bytes, size);
        io_end(io);
    }
    dmc_store_destroy(store);
}

/* More than one system call reads. The parts overlap, so that the memory stays small; the holes of tmpfs cost no page cache. */
static void test_read_of_more_than_2_gib(void **state)
{
    (void)state;
    enum { PARTS = 9 };
    const size_t part = 256u << 20;
    char path[] = "/dev/shm/damacy-huge-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        skip();
    assert_int_equal(ftruncate(fd, (off_t)(part * PARTS)), 0);
    assert_int_equal(pwrite(fd, "end", 3, (off_t)(part * PARTS - 3)), 3);
    close(fd);
    unsigned char *data = dmc_pages_map(part);
    assert_non_null(data);
    struct iovec parts[PARTS];
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){data, part};
    struct dmc_store *store = file_store(4);
    struct dmc_io *io = io_make(4, false);
    struct one_read read;
    prepare(&read, store, path, DMC_RANGE_SPAN, 0, NULL, 0);
    read.request.parts = parts;
    read.request.part_count = PARTS;
    complete(io, &read.request);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_int_equal(read.request.bytes_read, part * PARTS);
    assert_memory_equal(data + part - 3, "end", 3);
    io_end(io);
    dmc_store_destroy(store);
    dmc_pages_unmap(data, part);
    unlink(path);
}

/* --- handles --- */

enum { FILES = 40, FILE_BYTES = 20000 };
static char paths[FILES][400];

static void make_files(void)
{
    for (int i = 0; i < FILES; i++) {
        char name[240];
        /* Some paths are too long for the inline one. */
        snprintf(name, sizeof name, "f%0*d", i % 4 ? 3 : 210, i);
        write_file(in_folder(paths[i], sizeof paths[i], name), 100 + (uint64_t)i, FILE_BYTES);
    }
}

static void test_open_files_are_bounded(void **state)
{
    (void)state;
    make_files();
    static const uint32_t bounds[] = {1, 2, 7, 64};
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        struct dmc_store *store = file_store(bounds[b]);
        struct dmc_io *io = io_make(4, false);
        uint32_t before = descriptors_open();
        for (int round = 0; round < 200; round++) {
            unsigned char data[64];
            struct one_read read;
            int i = round * 7 % FILES;
            read_span(&read, io, store, paths[i], 64, data, sizeof data);
            assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
            assert_true(bytes_match(data, 100 + (uint64_t)i, 64, sizeof data));
        }
        uint32_t open_now = dmc_file_handles_open(dmc_store_file_handles(store)), descriptors = descriptors_open() - before;
        assert_true(open_now >= 1 && open_now <= bounds[b]);
        assert_true(bounds[b] < FILES || open_now == FILES);
        assert_in_range(descriptors, open_now, open_now + 1); /* a ring, where the page cache let a file go */
        io_end(io);
        dmc_store_destroy(store);
        assert_true(descriptors_open() < before);
    }
}

/* What was used lately stays open; the rest makes room. */
static void test_least_recently_used_is_closed(void **state)
{
    (void)state;
    make_files();
    struct dmc_file_handles *handles;
    assert_int_equal(dmc_file_handles_create(8, &handles, NULL), DAMACY_OK);
    struct dmc_request waiter = {0};
    struct dmc_file_handle *handle;
    uint32_t reopened = 0;
    int favourite_fd = -1;
    for (int i = 0; i < FILES * 3; i++) {
        for (int favourite = 1; favourite >= 0; favourite--) {
            const char *path = paths[favourite ? 0 : 1 + i % (FILES - 1)];
            enum dmc_handle_outcome outcome =
                dmc_file_handles_acquire(handles, path, dmc_hash_bytes(path, strlen(path), 0), &waiter, &handle);
            assert_int_equal(outcome, favourite && i > 0 ? DMC_HANDLE_OK : DMC_HANDLE_OPENED);
            if (favourite) {
                reopened += favourite_fd != handle->fd;
                favourite_fd = handle->fd;
            }
            dmc_file_handle_release(handles, handle);
        }
        assert_true(dmc_file_handles_open(handles) <= 8);
    }
    assert_int_equal(reopened, 1);
    assert_true(dmc_file_handles_destroy(handles));
}

/* As many descriptors as are open now, and a few more. */
static struct rlimit low_limit(uint32_t more)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int probe = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(probe >= 0);
    close(probe);
    limit.rlim_cur = (rlim_t)probe + more;
    return limit;
}

/* Many reads at once with few descriptors, or few handles: those that find none wait for one, all end well. */
static void many_files_at_once(struct dmc_store *store, struct dmc_io *io, struct rlimit *low)
{
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    static struct one_read reads[FILES];
    static unsigned char data[FILES][3000];
    uint32_t pending = 0;
    for (int i = 0; i < FILES; i++)
        drop_file(paths[i]);
    if (low)
        assert_int_equal(setrlimit(RLIMIT_NOFILE, low), 0);
    for (int i = 0; i < FILES; i++) {
        struct dmc_request *request = prepare(&reads[i], store, paths[i], DMC_RANGE_SPAN, 9000, data[i], sizeof data[i]);
        pending += dmc_store_start(io, request) == DMC_START_PENDING;
    }
    while (pending-- > 0)
        wait_any(io);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < FILES; i++) {
        if (reads[i].request.outcome != DMC_OUTCOME_OK)
            fail_msg("file %d: %s", i, reads[i].error.message);
        assert_true(bytes_match(data[i], 100 + (uint64_t)i, 9000, sizeof data[i]));
    }
}

static void test_out_of_descriptors(void **state)
{
    (void)state;
    make_files();
    for (int pool = 0; pool < 2; pool++) {
        struct dmc_store *store = file_store(1000);
        struct dmc_io *io = io_make(FILES, pool);
        struct rlimit low = low_limit(5);
        for (int round = 0; round < 3; round++)
            many_files_at_once(store, io, &low);
        io_end(io);
        dmc_store_destroy(store);
    }
}

static void test_few_handles_many_reads(void **state)
{
    (void)state;
    make_files();
    for (int pool = 0; pool < 2; pool++) {
        struct dmc_store *store = file_store(2);
        struct dmc_io *io = io_make(FILES, pool);
        uint32_t before = descriptors_open();
        for (int round = 0; round < 5; round++)
            many_files_at_once(store, io, NULL);
        assert_true(descriptors_open() <= before + 3); /* two files, the ring */
        io_end(io);
        dmc_store_destroy(store);
    }
}

static void test_nothing_to_close_fails_clearly(void **state)
{
    (void)state;
    make_files();
    struct dmc_store *store = file_store(1000);
    struct dmc_io *io = io_make(4, true);
    struct rlimit before, low = low_limit(0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    unsigned char data[10];
    struct one_read read;
    assert_int_equal(dmc_store_start(io, prepare(&read, store, paths[1], DMC_RANGE_SPAN, 0, data, 10)), DMC_START_DONE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(read.error.os_error, EMFILE);
    assert_non_null(strstr(read.error.hint, "open_files_max"));
    read_span(&read, io, store, paths[1], 0, data, 10);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    io_end(io);
    dmc_store_destroy(store);
}

/* A request that waits for a handle can be cancelled, and the ones behind it still get theirs. */
static void test_cancel_while_waiting_for_a_handle(void **state)
{
    (void)state;
    make_files();
    for (int pool = 0; pool < 2; pool++) {
        struct dmc_store *store = file_store(1);
        struct dmc_io *io = io_make(8, pool);
        struct one_read reads[5];
        unsigned char data[5][FILE_BYTES];
        drop_file(paths[0]);
        drop_file(paths[1]);
        uint32_t pending = 0;
        for (int i = 0; i < 5; i++)
            pending += dmc_store_start(io, prepare(&reads[i], store, paths[i], DMC_RANGE_SPAN, 0, data[i], FILE_BYTES)) ==
                       DMC_START_PENDING;
        bool waits = pending == 5; /* unless the page cache would not let go */
        if (waits) {
            dmc_store_cancel(io, &reads[1].request);
            dmc_store_cancel(io, &reads[3].request);
        }
        while (pending-- > 0)
            wait_any(io);
        for (int i = 0; i < 5; i++) {
            bool cancelled = waits && i % 2;
            assert_int_equal(reads[i].request.outcome, cancelled ? DMC_OUTCOME_FAILED : DMC_OUTCOME_OK);
            assert_int_equal(reads[i].request.status, cancelled ? DAMACY_SHUTDOWN : DAMACY_OK);
        }
        io_end(io);
        dmc_store_destroy(store);
    }
}

static struct dmc_file_handle *hold(struct dmc_store *store, const char *path)
{
    struct dmc_request nobody = {0};
    struct dmc_file_handle *handle = NULL;
    enum dmc_handle_outcome outcome =
        dmc_file_handles_acquire(dmc_store_file_handles(store), path, dmc_hash_bytes(path, strlen(path), 0), &nobody, &handle);
    assert_true(outcome == DMC_HANDLE_OK || outcome == DMC_HANDLE_OPENED);
    return handle;
}

/* The same with the waiting forced: the only handle is held here. One is cancelled in the list, one when it was woken already
 * and must pass the handle on. */
static void test_waiters_pass_the_handle_on(void **state)
{
    (void)state;
    make_files();
    struct dmc_store *store = file_store(1);
    struct dmc_io *io = io_make(8, false);
    struct dmc_file_handle *held = hold(store, paths[0]);
    struct one_read reads[6];
    unsigned char data[6][100];
    for (int i = 1; i < 6; i++) {
        assert_int_equal(dmc_store_start(io, prepare(&reads[i], store, paths[i], DMC_RANGE_SPAN, 0, data[i], 100)),
                         DMC_START_PENDING);
        if (i == 4) /* the last of the list */
            dmc_store_cancel(io, &reads[4].request);
    }
    assert_ptr_equal(wait_any(io), &reads[4].request);
    assert_null(dmc_io_wait(io, 0));
    /* The file that is open already can be read all the while. */
    assert_int_equal(dmc_store_start(io, prepare(&reads[0], store, paths[0], DMC_RANGE_SPAN, 0, data[0], 100)), DMC_START_DONE);
    /* Absent ones wait, too, and must not keep the handle from others. */
    assert_int_equal(unlink(paths[3]), 0);
    dmc_file_handle_release(dmc_store_file_handles(store), held); /* wakes 1 */
    dmc_store_cancel(io, &reads[1].request);
    for (int i = 0; i < 4; i++)
        wait_any(io);
    assert_int_equal(dmc_io_pending(io), 0);
    for (int i = 1; i < 6; i++) {
        enum dmc_outcome expected = i == 3 ? DMC_OUTCOME_ABSENT : i == 1 || i == 4 ? DMC_OUTCOME_FAILED : DMC_OUTCOME_OK;
        assert_int_equal(reads[i].request.outcome, expected);
        if (expected == DMC_OUTCOME_OK)
            assert_true(bytes_match(data[i], 100 + (uint64_t)i, 0, 100));
    }
    io_end(io);
    dmc_store_destroy(store);
}

/* File systems that refuse RWF_NOWAIT: far away ones are never read here, local ones not while they are slow. */
static void test_read_modes(void **state)
{
    (void)state;
    make_files();
    for (int pool = 0; pool < 2; pool++) {
        struct dmc_store *store = file_store(8);
        struct dmc_io *io = io_make(4, pool);
        struct dmc_file_handle *handle = hold(store, paths[0]);
        static unsigned char data[FILE_BYTES + 5];
        struct one_read read;
        assert_int_not_equal(fcntl(handle->fd, F_GETFL) & O_NONBLOCK, 0); /* a system call that most files do not need */
        atomic_store(&handle->file_system->mode, DMC_READ_RING);
        assert_int_equal(dmc_store_start(io, prepare(&read, store, paths[0], DMC_RANGE_SPAN, 5, data, FILE_BYTES - 5)),
                         DMC_START_PENDING);
        wait_any(io);
        /* Else io_uring would answer EAGAIN instead of waiting for the disk. */
        assert_int_equal(fcntl(handle->fd, F_GETFL) & O_NONBLOCK, 0);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(data, 100, 5, FILE_BYTES - 5));
        read_span(&read, io, store, paths[0], 5, data, FILE_BYTES);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_TRUNCATED);
        assert_int_equal(read.request.bytes_read, FILE_BYTES - 5);
        complete(io, prepare(&read, store, paths[0], DMC_RANGE_WHOLE, 0, data, sizeof data));
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(read.request.bytes_read, FILE_BYTES);

        atomic_store(&handle->file_system->mode, DMC_READ_MIXED);
        atomic_store(&handle->file_system->slow_credit, 2);
        for (int i = 0; i < 3; i++) {
            enum dmc_start start = dmc_store_start(io, prepare(&read, store, paths[0], DMC_RANGE_SPAN, 0, data, 100));
            assert_int_equal(start, i < 2 ? DMC_START_PENDING : DMC_START_DONE);
            if (start == DMC_START_PENDING)
                wait_any(io);
            assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        }

        /* A descriptor that cannot be read: the error of the system call comes out, here and from afar. */
        int folder = open(fixture_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(folder >= 0 && dup3(folder, handle->fd, O_CLOEXEC) >= 0);
        close(folder);
        for (int mode = DMC_READ_NOWAIT; mode <= DMC_READ_RING; mode++) {
            atomic_store(&handle->file_system->mode, (uint32_t)mode);
            read_span(&read, io, store, paths[0], 0, data, 100);
            assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
            assert_int_equal(read.request.status, DAMACY_IO);
            assert_int_equal(read.error.os_error, EISDIR);
        }
        dmc_file_handle_release(dmc_store_file_handles(store), handle);
        io_end(io);
        dmc_store_destroy(store);
    }
}

/* No descriptor for a ring: threads read in its stead. */
static void test_without_a_ring(void **state)
{
    (void)state;
    make_files();
    struct dmc_store *store = file_store(8);
    struct dmc_io *io = io_make(4, false);
    struct dmc_file_handle *handle = hold(store, paths[0]);
    atomic_store(&handle->file_system->mode, DMC_READ_RING);
    struct rlimit before, low = low_limit(0);
    struct damacy_error error = {0};
    struct dmc_io_options options = {.depth = 1};
    struct dmc_io *other = NULL;
    unsigned char data[100];
    struct one_read read;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    enum dmc_start start = dmc_store_start(io, prepare(&read, store, paths[0], DMC_RANGE_SPAN, 7, data, sizeof data));
    enum damacy_status probed = dmc_io_uring_probe(&error), made = dmc_io_create(&options, &other, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(start, DMC_START_PENDING);
    assert_int_equal(probed, DAMACY_UNSUPPORTED);
    assert_true(error.os_error != 0);
    assert_int_equal(made, DAMACY_IO);
    assert_null(other);
    wait_any(io);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_true(bytes_match(data, 100, 7, sizeof data));
    dmc_file_handle_release(dmc_store_file_handles(store), handle);
    io_end(io);
    dmc_store_destroy(store);
}

/* Kept where the sanitizer finds it: a store is left behind when a read of it did not end. */
static struct dmc_store *left_behind;

static void test_destroy_leaves_files_in_use(void **state)
{
    (void)state;
    make_files();
    left_behind = file_store(4);
    struct dmc_file_handle *handle = hold(left_behind, paths[0]);
    damacy_set_log_quiet(true);
    dmc_store_destroy(left_behind);
    damacy_set_log_quiet(false);
    char byte;
    assert_int_equal(pread(handle->fd, &byte, 1, 0), 1);
    dmc_file_handle_release(dmc_store_file_handles(left_behind), handle);
    dmc_store_destroy(left_behind);
}

/* --- threads --- */

struct reader {
    pthread_t thread;
    struct dmc_store *store;
    uint64_t seed;
    bool pool;
    uint32_t wrong;
};

static void *reader_run(void *argument)
{
    enum { DEPTH = 6, TOTAL = 400, BYTES = 2000 };
    struct reader *reader = argument;
    struct dmc_io_options options = {.depth = DEPTH, .io_uring_never = reader->pool};
    struct dmc_io *io;
    struct one_read *reads = calloc(DEPTH, sizeof *reads);
    unsigned char(*data)[BYTES] = calloc(DEPTH, BYTES);
    if (!reads || !data || dmc_io_create(&options, &io, NULL) != DAMACY_OK) {
        reader->wrong = 1;
        return NULL;
    }
    for (uint32_t done = 0, started = 0; done < TOTAL;) {
        struct dmc_request *request = NULL;
        if (started < TOTAL && started - done < DEPTH) {
            uint32_t slot = 0;
            while (reads[slot].request.user)
                slot++;
            uint64_t random = dmc_hash_u64(reader->seed, started);
            uint32_t file = (uint32_t)(random % FILES);
            request = prepare(&reads[slot], reader->store, paths[file], DMC_RANGE_SPAN, (random >> 16) % (FILE_BYTES - BYTES),
                              data[slot], BYTES);
            request->user = (void *)(uintptr_t)(file + 1);
            if (started % 16 == 0) {
                int fd = open(paths[file], O_RDONLY | O_CLOEXEC);
                posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
                close(fd);
            }
            started++;
            if (dmc_store_start(io, request) == DMC_START_PENDING)
                continue;
        } else {
            request = dmc_io_wait(io, dmc_clock_deadline(PATIENCE_NS));
        }
        if (!request) {
            reader->wrong++;
            break;
        }
        uint64_t file = (uint64_t)(uintptr_t)request->user - 1;
        size_t slot = (size_t)((struct one_read *)(void *)request - reads);
        if (request->outcome != DMC_OUTCOME_OK || !bytes_match(data[slot], 100 + file, request->offset, BYTES))
            reader->wrong++;
        request->user = NULL;
        done++;
    }
    if (!dmc_io_destroy(io, dmc_clock_deadline(PATIENCE_NS)))
        reader->wrong++;
    free(data);
    free(reads);
    return NULL;
}

/* Several threads, each with its own dmc_io, on one store that has fewer handles than they use. */
static void test_threads_share_a_store(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    make_files();
    uint64_t seed = test_seed();
    static const uint32_t bounds[] = {2, 6, 100};
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        struct dmc_store *store = file_store(bounds[b]);
        struct reader readers[THREADS];
        for (uint32_t i = 0; i < THREADS; i++) {
            readers[i] = (struct reader){.store = store, .seed = seed + i, .pool = i % 2};
            assert_int_equal(dmc_thread_start(&readers[i].thread, "reader", reader_run, &readers[i]), 0);
        }
        for (uint32_t i = 0; i < THREADS; i++) {
            pthread_join(readers[i].thread, NULL);
            assert_int_equal(readers[i].wrong, 0);
        }
        dmc_store_destroy(store);
    }
}

/* --- memory --- */

/* Whichever allocation fails: an error or a right answer, and nothing leaks (the sanitizer tells). */
static void test_allocations_that_fail(void **state)
{
    (void)state;
    make_files();
    for (uint64_t n = 1; n < 12; n++) {
        for (int pool = 0; pool < 2; pool++) {
            struct dmc_store *store = NULL;
            struct dmc_io *io = NULL;
            struct dmc_store_file_options options = {0};
            struct dmc_io_options io_options = {.depth = 4, .io_uring_never = pool};
            struct damacy_error error;
            drop_file(paths[0]);
            dmc_mem_fail_at(n);
            enum damacy_status status = dmc_store_file_create(&options, &store, &error);
            if (status == DAMACY_OK)
                status = dmc_io_create(&io_options, &io, &error);
            if (status == DAMACY_OK) {
                unsigned char data[100];
                struct one_read read;
                read_span(&read, io, store, paths[0], 10, data, sizeof data);
                assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
                assert_true(bytes_match(data, 100, 10, sizeof data));
            } else {
                assert_int_equal(status, DAMACY_OOM);
                assert_int_equal(error.status, DAMACY_OOM);
            }
            dmc_mem_fail_at(0);
            if (io)
                io_end(io);
            dmc_store_destroy(store);
        }
    }
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {IN_FOLDER(test_what_is_no_file_is_refused),
                                       IN_FOLDER(test_files_that_change_while_open),
                                       IN_FOLDER(test_file_without_size),
                                       IN_FOLDER(test_sparse_file_of_10_gib),
                                       IN_FOLDER(test_read_of_more_than_2_gib),
                                       IN_FOLDER(test_open_files_are_bounded),
                                       IN_FOLDER(test_least_recently_used_is_closed),
                                       IN_FOLDER(test_out_of_descriptors),
                                       IN_FOLDER(test_few_handles_many_reads),
                                       IN_FOLDER(test_nothing_to_close_fails_clearly),
                                       IN_FOLDER(test_cancel_while_waiting_for_a_handle),
                                       IN_FOLDER(test_waiters_pass_the_handle_on),
                                       IN_FOLDER(test_read_modes),
                                       IN_FOLDER(test_without_a_ring),
                                       IN_FOLDER(test_destroy_leaves_files_in_use),
                                       IN_FOLDER(test_threads_share_a_store),
                                       IN_FOLDER(test_allocations_that_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
