/* SPDX-License-Identifier: Apache-2.0 */
/* Several at once: writers lose nothing, of two that create one wins, a reader sees whole states only. */
#include "help.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "store/dir.h"

#define WRITERS 4
#define WRITES 50

static const char *cidr_of(unsigned writer)
{
        static const char *const cidrs[WRITERS] = { "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16" };

        return cidrs[writer];
}

/* Half of the writes create a resource of the writer's own, half go to one that all share. */
static void write_many(const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision, last = 0;

        for (unsigned i = 0; i < WRITES; i++) {
                weir_auto_free char *name = i % 2 ? strdup("shared") : weir_asprintf("w%u-%u", writer, i);
                int r = help_put(store, i % 2 ? HELP_APPLY : HELP_CREATE, name, cidr_of(writer), NULL, &revision, &err);

                if (r < 0)
                        fail_msg("%s: %s", err.path, err.text);
                assert_true(revision > last);
                last = revision;
        }
}

static void start(pid_t pids[WRITERS], const char *folder, void (*run)(const char *folder, unsigned writer))
{
        for (unsigned i = 0; i < WRITERS; i++) {
                pids[i] = help_fork();
                if (pids[i] == 0) {
                        run(folder, i);
                        _exit(0);
                }
        }
}

static unsigned count_zero(const pid_t pids[WRITERS])
{
        unsigned n = 0;

        for (unsigned i = 0; i < WRITERS; i++) {
                int status = help_wait(pids[i]);

                assert_true(status == 0 || status == 7);
                n += status == 0;
        }
        return n;
}

static void writers_lose_nothing(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        bool seen[WRITERS * WRITES + 1] = { false };
        pid_t pids[WRITERS];

        (void)state;
        start(pids, folder, write_many);
        assert_int_equal(count_zero(pids), WRITERS);
        assert_int_equal(help_revision(folder), WRITERS * WRITES);
        assert_int_equal(weir_store_snapshot(store, &list, &errors), 0);
        assert_int_equal(list.n, WRITERS * WRITES / 2 + 1);
        for (size_t i = 0; i < list.n; i++) {
                uint64_t version;

                assert_int_equal(weir_parse_uint(list.items[i]->resource_version, WRITERS * WRITES, &version), 0);
                assert_false(seen[version]);
                seen[version] = true;
        }
        weir_resources_clear(&list);
}

/* 7 means that another was first. */
static void create_one(const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;
        int r;

        r = help_put(store, HELP_CREATE, "one", cidr_of(writer), NULL, &revision, &err);
        if (r != 0 && r != WEIR_EEXISTS)
                fail_msg("%s: %s", err.path, err.text);
        _exit(r == 0 ? 0 : 7);
}

static void of_two_that_create_one_wins(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++) {
                AUTO_FOLDER folder = help_folder();
                pid_t pids[WRITERS];

                start(pids, folder, create_one);
                assert_int_equal(count_zero(pids), 1);
                assert_int_equal(help_revision(folder), 1);
        }
}

static void replace_one(const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;
        int r;

        r = help_put(store, HELP_REPLACE, "one", cidr_of(writer), "1", &revision, &err);
        if (r != 0 && r != WEIR_ECONFLICT)
                fail_msg("%s: %s", err.path, err.text);
        _exit(r == 0 ? 0 : 7);
}

/* All have read revision 1: the first to replace it wins, and the others are told. */
static void of_two_that_replace_the_same_one_wins(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++) {
                AUTO_FOLDER folder = help_folder();
                weir_auto(store) struct weir_store *store = help_open(folder, true);
                struct weir_err err = { 0 };
                uint64_t revision;
                pid_t pids[WRITERS];

                assert_int_equal(help_put(store, HELP_CREATE, "one", CIDR_A, NULL, &revision, &err), 0);
                start(pids, folder, replace_one);
                assert_int_equal(count_zero(pids), 1);
                assert_string_not_equal(help_host(store, "one", NULL), CIDR_A);
        }
}

static void write_in_turn(const char *folder)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(help_put(store, HELP_APPLY, "a", i % 2 ? CIDR_B : CIDR_A, NULL, &revision, &err), 0);
}

/* Until the writer is done: exactly one resource, whole, one of the two, with a version that never goes back. */
static void a_reader_sees_whole_states(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision, version, last = 0;
        unsigned states = 0;
        pid_t pid, done;
        int status = 0;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        pid = help_fork();
        if (pid == 0) {
                write_in_turn(folder);
                _exit(0);
        }
        do {
                const char *host;

                done = waitpid(pid, &status, WNOHANG);
                host = help_host(store, "a", &version);
                if (!weir_streq(host, CIDR_A) && !weir_streq(host, CIDR_B))
                        fail_msg("a half state: \"%s\"", host);
                assert_true(version >= last);
                states += version > last;
                last = version;
                assert_keys(store, "external-service/default/a ");
        } while (done == 0);
        assert_int_equal(status, 0);
        assert_int_equal(last, 101);
        assert_true(states > 1);
}

/*
 * Two writers and a reader, and a model of what the reader may see.
 *
 * Writers note for each write the moments before and after it and the version it left (0: deleted); the reader the
 * moments before and after it looked and the version it saw of each name. A version may be seen if the write that left
 * it had begun before the look ended, and no later write of that name had ended before the look began. Moments are
 * counted by all of them together, so the model needs no clock.
 */
#define NAMES 3
#define MODEL_WRITERS 2
#define MODEL_WRITES 150
#define LOOKS 100000

struct noted_write {
        unsigned name;
        uint64_t begin, end, version;
};

struct look {
        uint64_t begin, end;
        uint64_t version[NAMES]; /* 0: not there */
};

struct model {
        _Atomic uint64_t moment;
        _Atomic unsigned done;
        unsigned n_writes[MODEL_WRITERS];
        struct noted_write writes[MODEL_WRITERS][MODEL_WRITES];
        _Atomic unsigned n_looks;
        struct look looks[LOOKS];
};

static const char *const names[NAMES] = { "x", "y", "z" };

/* One write of any kind. False if it was refused: somebody else was first. */
static bool write_one(struct weir_store *store, unsigned name, unsigned kind, const char *cidr, uint64_t *ret_version)
{
        static const enum help_verb verbs[] = { HELP_CREATE, HELP_REPLACE, HELP_APPLY };
        struct weir_err err = { 0 };
        int r;

        *ret_version = 0;
        if (kind < WEIR_ARRAY_SIZE(verbs))
                r = help_put(store, verbs[kind], names[name], cidr, NULL, ret_version, &err);
        else
                r = weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", names[name], &err);
        if (r < 0 && r != WEIR_EEXISTS && r != WEIR_ENOTFOUND)
                fail_msg("%s: %s", err.path, err.text);
        return r == 0;
}

static void write_noted(struct model *model, const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        unsigned looks = 0;
        uint32_t seed = 7 + writer;

        for (unsigned i = 0; i < MODEL_WRITES; i++) {
                struct noted_write *noted = &model->writes[writer][model->n_writes[writer]];
                uint32_t roll;

                seed = seed * 1664525 + 1013904223;
                roll = seed >> 16;
                noted->name = roll % NAMES;
                noted->begin = atomic_fetch_add(&model->moment, 1);
                if (!write_one(store, noted->name, roll / NAMES % 4, cidr_of(writer), &noted->version))
                        continue;
                noted->end = atomic_fetch_add(&model->moment, 1);
                model->n_writes[writer]++;
                /* Where the processor is not shared out evenly the reader would meet nobody. */
                while (i % 4 == 0 && atomic_load(&model->n_looks) == looks)
                        (void)sched_yield();
                looks = atomic_load(&model->n_looks);
        }
        atomic_fetch_add(&model->done, 1);
}

static unsigned index_of(const char *name)
{
        unsigned i = 0;

        while (i < NAMES && !weir_streq(names[i], name))
                i++;
        assert_true(i < NAMES);
        return i;
}

static void look_once(struct weir_store *store, struct model *model)
{
        struct look *look = &model->looks[model->n_looks];
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };

        look->begin = atomic_fetch_add(&model->moment, 1);
        if (weir_store_snapshot(store, &list, &errors) != 0)
                fail_msg("%s: %s", errors.items[0].path, errors.items[0].text);
        look->end = atomic_fetch_add(&model->moment, 1);
        for (size_t i = 0; i < list.n; i++) {
                const struct weir_resource *resource = list.items[i];

                assert_int_equal(weir_parse_uint(resource->resource_version, UINT64_MAX,
                                                 &look->version[index_of(resource->name)]),
                                 0);
                assert_true(weir_streq(resource->hosts[0], cidr_of(0)) || weir_streq(resource->hosts[0], cidr_of(1)));
        }
        weir_resources_clear(&list);
        atomic_fetch_add(&model->n_looks, 1);
}

/* The write that left @version of @name; NULL: none, and it was never there. */
static const struct noted_write *writer_of(const struct model *model, unsigned name, uint64_t version)
{
        for (unsigned w = 0; w < MODEL_WRITERS; w++)
                for (unsigned i = 0; i < model->n_writes[w]; i++)
                        if (model->writes[w][i].name == name && model->writes[w][i].version == version)
                                return &model->writes[w][i];
        return NULL;
}

/* Whether a write that certainly came after @left, and left something else, was over before the look began. */
static bool was_overwritten(const struct model *model, const struct noted_write *left, unsigned name,
                            const struct look *look)
{
        for (unsigned w = 0; w < MODEL_WRITERS; w++)
                for (unsigned i = 0; i < model->n_writes[w]; i++) {
                        const struct noted_write *other = &model->writes[w][i];

                        if (other->name == name && other != left && other->end < look->begin &&
                            (!left || other->begin > left->end))
                                return true;
                }
        return false;
}

/* A deletion leaves no version that tells it from others: any of them may explain that nothing was there. */
static bool may_be_gone(const struct model *model, unsigned name, const struct look *look)
{
        if (!was_overwritten(model, NULL, name, look))
                return true;
        for (unsigned w = 0; w < MODEL_WRITERS; w++)
                for (unsigned i = 0; i < model->n_writes[w]; i++) {
                        const struct noted_write *left = &model->writes[w][i];

                        if (left->name == name && left->version == 0 && left->begin < look->end &&
                            !was_overwritten(model, left, name, look))
                                return true;
                }
        return false;
}

static void judge_look(const struct model *model, const struct look *look)
{
        for (unsigned name = 0; name < NAMES; name++) {
                const struct noted_write *left;

                if (look->version[name] == 0) {
                        assert_true(may_be_gone(model, name, look));
                        continue;
                }
                left = writer_of(model, name, look->version[name]);
                assert_non_null(left);
                assert_true(left->begin < look->end);
                assert_false(was_overwritten(model, left, name, look));
        }
}

/* One reader's looks follow one another: no version of a name comes back. */
static void judge(const struct model *model)
{
        unsigned changes = 0;

        for (unsigned i = 0; i < model->n_looks; i++) {
                judge_look(model, &model->looks[i]);
                for (unsigned name = 0; name < NAMES && i > 0; name++) {
                        uint64_t before = model->looks[i - 1].version[name], now = model->looks[i].version[name];

                        assert_true(now == 0 || before == 0 || now >= before);
                        changes += now != before;
                }
        }
        /* The reader met the writers, or nothing was tried. */
        assert_true(changes > 10);
}

static void a_reader_sees_what_the_model_allows(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct model *model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t pids[MODEL_WRITERS];

        (void)state;
        assert_true(model != MAP_FAILED);
        for (unsigned i = 0; i < MODEL_WRITERS; i++) {
                pids[i] = help_fork();
                if (pids[i] == 0) {
                        write_noted(model, folder, i);
                        _exit(0);
                }
        }
        while (atomic_load(&model->done) < MODEL_WRITERS) {
                assert_true(model->n_looks < LOOKS - 1);
                look_once(store, model);
        }
        for (unsigned i = 0; i < MODEL_WRITERS; i++)
                assert_int_equal(help_wait(pids[i]), 0);
        look_once(store, model);
        judge(model);
        assert_int_equal(help_revision(folder), model->n_writes[0] + model->n_writes[1]);
        (void)munmap(model, sizeof(*model));
}

#define CROWD 3000
#define LISTS 300

static void make_crowd(int folder, unsigned first, unsigned n)
{
        for (unsigned i = first; i < first + n; i++) {
                char name[32];

                (void)snprintf(name, sizeof(name), "r%u.yaml", i % CROWD);
                assert_int_equal(close(openat(folder, ".new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644)), 0);
                assert_int_equal(renameat(folder, ".new", folder, name), 0);
        }
}

/*
 * A file that is replaced changes its place in the folder on some file systems (tmpfs, btrfs): a listing in several
 * calls can pass it by, and a rule that was there all the time would be missing, with every connection it allows.
 */
static void a_crowded_folder_is_listed_whole(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_close int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        unsigned missed = 0;
        pid_t pid;

        (void)state;
        make_crowd(fd, 0, CROWD);
        pid = help_fork();
        for (unsigned i = 0; pid == 0; i = (i + 37) % CROWD)
                make_crowd(fd, i, 1);
        for (unsigned i = 0; i < LISTS; i++) {
                struct weir_strv listed = { 0 };

                missed += weir_dir_list(fd, &listed) != 0 || listed.n != CROWD;
                weir_strv_clear(&listed);
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(help_wait(pid), 128 + SIGKILL);
        assert_int_equal(missed, 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(writers_lose_nothing),
                cmocka_unit_test(of_two_that_create_one_wins),
                cmocka_unit_test(of_two_that_replace_the_same_one_wins),
                cmocka_unit_test(a_reader_sees_whole_states),
                cmocka_unit_test(a_reader_sees_what_the_model_allows),
                cmocka_unit_test(a_crowded_folder_is_listed_whole),
        };

        return cmocka_run_group_tests_name("together", tests, NULL, NULL);
}
