/* Feed the files of a corpus to a fuzz target, as an ordinary test. Arguments: files or folders. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status) != 0) {
        perror(path);
        return 1;
    }
    size_t bytes = (size_t)status.st_size;
    uint8_t *data = malloc(bytes ? bytes : 1); /* exactly as long as the input, so that ASan sees any overread */
    if (!data || fread(data, 1, bytes, file) != bytes) {
        perror(path);
        return 1;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    return 0;
}

int main(int count, char **arguments)
{
    size_t replayed = 0;
    for (int i = 1; i < count; i++) {
        DIR *folder = opendir(arguments[i]);
        if (!folder) {
            if (replay_file(arguments[i]))
                return 1;
            replayed++;
            continue;
        }
        for (struct dirent *entry; (entry = readdir(folder));) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", arguments[i], entry->d_name);
            struct stat status;
            if (entry->d_name[0] == '.' || stat(path, &status) != 0 || !S_ISREG(status.st_mode))
                continue;
            if (replay_file(path))
                return 1;
            replayed++;
        }
        closedir(folder);
    }
    printf("replayed %zu inputs\n", replayed);
    return replayed ? 0 : 1;
}
