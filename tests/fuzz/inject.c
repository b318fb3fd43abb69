/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weir written into Kubernetes objects: every byte that was there stays, in its order; what comes out can be read; and
 * injecting again changes nothing.
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "base/utf8.h"
#include "inject/inject.h"
#include "model/node.h"

static bool is_within(const char *text, size_t n, const struct weir_buf *longer)
{
        size_t at = 0;

        for (size_t i = 0; i < longer->length && at < n; i++)
                at += text[at] == longer->data[i];
        return at == n;
}

static void check_visible(const char *line)
{
        size_t n = strlen(line);

        for (size_t at = 0, length; at < n; at += length) {
                uint32_t cp = (unsigned char)line[at];

                length = cp < 0x80 ? 1 : weir_utf8_decode((const unsigned char *)line + at, n - at, &cp);
                CHECK(length > 0 && weir_utf8_is_visible(cp));
        }
}

static int count(void *context, struct weir_node *root)
{
        ++*(size_t *)context;
        weir_node_free(root);
        return 0;
}

/* How many documents; errors are those of the reading. */
static size_t documents(const char *bytes, size_t n, size_t *ret_errors)
{
        struct weir_errs errors = { 0 };
        size_t found = 0;

        CHECK(weir_node_read(bytes, n, "t.yaml", count, &found, &errors) == 0);
        *ret_errors = errors.total;
        weir_errs_clear(&errors);
        return found;
}

static void inject(const char *bytes, size_t n, bool allow, struct weir_buf *out, size_t *ret_errors)
{
        const struct weir_inject_options options = {
                .image = "weir:test", .pull_policy = "IfNotPresent", .uid = WEIR_INJECT_UID, .allow_exclusions = allow
        };
        struct weir_errs errors = { 0 };
        struct weir_strv notes = { 0 };

        CHECK(weir_inject(bytes, n, "t.yaml", &options, out, &errors, &notes) == 0);
        for (size_t i = 0; i < errors.n; i++) {
                weir_auto_free char *line = weir_err_format(&errors.items[i]);

                check_visible(line);
        }
        *ret_errors = errors.total;
        weir_errs_clear(&errors);
        weir_strv_clear(&notes);
}

static void check_injected(const char *bytes, size_t n, bool allow, const struct weir_buf *out)
{
        struct weir_buf again = { 0 };
        size_t errors, wrong_before, wrong_after;
        size_t before = documents(bytes, n, &wrong_before),
               after = documents(out->data ? out->data : "", out->length, &wrong_after);

        CHECK(is_within(bytes, n, out));
        CHECK(wrong_before > 0 || (wrong_after == 0 && after == before));
        inject(out->data ? out->data : "", out->length, allow, &again, &errors);
        CHECK(errors == 0 && again.length == out->length);
        CHECK(again.length == 0 || memcmp(again.data, out->data, again.length) == 0);
        weir_buf_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        weir_auto_free char *text = exact_copy(bytes, n);
        struct weir_buf out = { 0 };
        bool allow = n % 2;
        size_t errors;

        inject(text, n, allow, &out, &errors);
        if (errors == 0)
                check_injected(text, n, allow, &out);
        weir_buf_clear(&out);
        return 0;
}
