/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target once for each file of the folders named: the corpus as a test, for any compiler. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

#include "base/fd.h"
#include "base/strutil.h"

#define BYTES_MAX (1 << 20)

static void replay_file(const char *folder, const char *name)
{
        weir_auto_free char *path = weir_asprintf("%s/%s", folder, name);
        weir_auto_free char *bytes = NULL, *exact = NULL;
        size_t n;

        /* The last one printed is the one that failed. */
        (void)printf("%s\n", name);
        (void)fflush(stdout);
        CHECK(path && weir_file_slurp(AT_FDCWD, path, BYTES_MAX, &bytes, &n) == 0);
        exact = exact_copy((const uint8_t *)bytes, n);
        (void)LLVMFuzzerTestOneInput((const uint8_t *)exact, n);
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
        size_t n = 0;

        for (int i = 1; i < argc; i++) {
                struct weir_strv names = { 0 };
                const struct dirent *entry;
                DIR *dir = opendir(argv[i]);

                CHECK(dir);
                while ((entry = readdir(dir)))
                        if (entry->d_name[0] != '.')
                                CHECK(weir_strv_add(&names, entry->d_name) == 0);
                qsort(names.items, names.n, sizeof(*names.items), compare);
                for (size_t k = 0; k < names.n; k++)
                        replay_file(argv[i], names.items[k]);
                n += names.n;
                weir_strv_clear(&names);
                (void)closedir(dir);
        }
        /* An empty corpus proves nothing. */
        CHECK(n > 0);
        return 0;
}
