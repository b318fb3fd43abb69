/* SPDX-License-Identifier: Apache-2.0 */
/* What an API server tells of an object, and base64 as kubeconfigs have it. The first byte is the kind. */
#include "fuzz.h"

#include "base/err.h"
#include "base/strutil.h"
#include "store/base64.h"
#include "store/kube_object.h"

static void check_base64(const uint8_t *bytes, size_t n)
{
        weir_auto_free char *encoded = weir_base64_encode((const char *)bytes, n), *decoded = NULL, *text = NULL;

        CHECK(encoded);
        if (n == 0 || memchr(bytes, '\0', n)) {
                CHECK(n == 0 || weir_base64_decode(encoded, &decoded) < 0);
        } else {
                CHECK(weir_base64_decode(encoded, &decoded) == 0);
                CHECK(strlen(decoded) == n && memcmp(decoded, bytes, n) == 0);
        }
        text = strndup((const char *)bytes, n);
        free(decoded);
        decoded = NULL;
        CHECK(text);
        if (weir_base64_decode(text, &decoded) == 0)
                CHECK(strlen(decoded) <= strlen(text));
}

/* A resource sent as it was read is read as it was sent. */
static void check_body(enum weir_kind kind, const struct weir_resource *resource)
{
        weir_auto_free char *body = weir_kube_object_body(resource, NULL, false);
        struct weir_resource *again = NULL;
        struct weir_err err = { 0 };
        json_error_t error;
        json_t *item;

        CHECK(body);
        item = json_loads(body, JSON_REJECT_DUPLICATES, &error);
        CHECK(item && weir_kube_object_read(kind, item, &again, &err) == 0);
        CHECK(weir_streq(again->name, resource->name) && again->n_hosts == resource->n_hosts &&
              again->n_ports == resource->n_ports && again->n_endpoints == resource->n_endpoints);
        weir_resource_unref(again);
        json_decref(item);
}

static void check_object(enum weir_kind kind, const uint8_t *bytes, size_t n)
{
        struct weir_kube_table table = { 0 };
        json_error_t error;
        json_t *item = json_loadb((const char *)bytes, n, 0, &error), *copy = json_deep_copy(item);
        bool changed = false;

        if (item && weir_kube_table_put(&table, kind, item, &changed) == 0) {
                CHECK(table.objects && (table.objects->resource != NULL) != (table.objects->problem != NULL));
                if (table.objects->resource)
                        check_body(kind, table.objects->resource);
                /* The same again is no change, if the server counts them. */
                changed = false;
                CHECK(weir_kube_table_put(&table, kind, copy, &changed) == 0);
                CHECK(!changed || table.objects->generation == 0);
                CHECK(weir_kube_table_drop(&table, copy, &changed) == 0 && !table.objects);
        }
        weir_kube_table_clear(&table);
        json_decref(item);
        json_decref(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        if (n == 0)
                return 0;
        if (bytes[0] % 3 == 2)
                check_base64(bytes + 1, n - 1);
        else
                check_object((enum weir_kind)(bytes[0] % 3), bytes + 1, n - 1);
        return 0;
}
