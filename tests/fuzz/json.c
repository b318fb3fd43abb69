/* SPDX-License-Identifier: Apache-2.0 */
/* JSON against another reader of it: taken by both or by neither, and read alike. */
#include "fuzz.h"

#include "../unit/model/same_json.h"
#include "base/err.h"

struct result {
        struct weir_node *root;
        size_t n;
};

static int take_root(void *context, struct weir_node *root)
{
        struct result *result = context;

        weir_node_free(result->root);
        result->root = root;
        result->n++;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct result result = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_node_place at;
        const char *problem = NULL;
        json_error_t error;
        json_t *json = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, &error);
        bool is_json = weir_node_is_json((const char *)bytes, n, &at, &problem);

        if (is_json) {
                CHECK(weir_node_read_json((const char *)bytes, n, "t.json", take_root, &result, &errors) == 0);
                /* Refused for what it means, or parted as only we do, or a number that the other does not hold. */
                CHECK(json || memmem(bytes, n, "---", 3) || errors.n > 0 || result.n != 1 ||
                      json_error_code(&error) == json_error_numeric_overflow);
        }
        /* Behind a number the other takes a zero byte for a blank. */
        if (n > 0 && memchr(bytes, '\0', n)) {
                json_decref(json);
                json = NULL;
        }
        if (json && errors.n == 0) {
                CHECK(is_json && result.n == 1);
                CHECK(is_same_json(result.root, json));
        }
        CHECK(!json || is_json);
        json_decref(json);
        weir_node_free(result.root);
        weir_errs_clear(&errors);
        return 0;
}
