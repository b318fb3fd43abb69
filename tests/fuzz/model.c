/* SPDX-License-Identifier: Apache-2.0 */
/* YAML and JSON to resources: whatever comes in, what is printed reads back equal, and what is told can be printed. */
#include "fuzz.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "base/utf8.h"
#include "model/resource.h"

/* One line, of characters that show as themselves. */
static void check_errors(const struct weir_errs *errors)
{
        for (size_t i = 0; i < errors->n; i++) {
                weir_auto_free char *line = weir_err_format(&errors->items[i]);
                size_t n = strlen(line);

                CHECK(errors->items[i].text[0] && errors->items[i].line > 0);
                for (size_t at = 0, length; at < n; at += length) {
                        uint32_t cp = (unsigned char)line[at];

                        length = cp < 0x80 ? 1 : weir_utf8_decode((const unsigned char *)line + at, n - at, &cp);
                        CHECK(length > 0 && weir_utf8_is_visible(cp));
                }
        }
}

static void print(const struct weir_resource *resource, bool json, int indent, struct weir_buf *buf)
{
        if (json)
                weir_resource_print_json(resource, indent, buf);
        else
                weir_resource_print_yaml(resource, buf);
        CHECK(buf->error == 0);
}

static void check_reads_back(const struct weir_resource *resource, bool json, int indent)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_buf first = { 0 }, yaml = { 0 }, again = { 0 };
        int r;

        print(resource, json, indent, &first);
        print(resource, false, 0, &yaml);
        r = weir_resources_read(first.data, first.length, "printed", &list, &errors, NULL);
        /* What is printed may be a little longer than what was read, and the limit is one of bytes. */
        if (first.length <= WEIR_DOCUMENT_BYTES_MAX) {
                if (r != 0)
                        (void)fprintf(stderr, "%s: in\n%s\n", errors.n ? errors.items[0].text : "", first.data);
                CHECK(r == 0 && list.n == 1);
                print(list.items[0], false, 0, &again);
                CHECK(weir_streq(again.data, yaml.data));
                CHECK(list.items[0]->n_hosts == resource->n_hosts && list.items[0]->n_ports == resource->n_ports);
        }
        weir_buf_clear(&first);
        weir_buf_clear(&yaml);
        weir_buf_clear(&again);
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
}

/* What the store does: the version is set, and nothing else. */
static void check_stamp(const struct weir_resource *resource)
{
        const struct weir_resource_change change = { .namespace_ = "team", .resource_version = "42" };
        struct weir_resource *stamped = NULL;

        CHECK(weir_resource_with(resource, &change, &stamped) == 0);
        CHECK(weir_streq(stamped->resource_version, "42") && weir_streq(stamped->namespace_, "team"));
        CHECK(weir_streq(stamped->name, resource->name) && stamped->n_ports == resource->n_ports);
        check_reads_back(stamped, false, 0);
        weir_resource_unref(stamped);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 }, warnings = { 0 };
        int r;

        r = weir_resources_read((const char *)bytes, n, "t.yaml", &list, &errors, &warnings);
        CHECK(r == (errors.total ? WEIR_EINVALID : 0));
        check_errors(&errors);
        check_errors(&warnings);
        for (size_t i = 0; i < list.n; i++) {
                check_reads_back(list.items[i], false, 0);
                check_reads_back(list.items[i], true, 0);
                check_reads_back(list.items[i], true, 4);
                check_stamp(list.items[i]);
        }
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
        weir_errs_clear(&warnings);
        return 0;
}
