/* SPDX-License-Identifier: Apache-2.0 */
/* Loading libcurl. */
#include "store/curl.h"

#include <dlfcn.h>
#include <string.h>

#include "base/err.h"

#define LIBRARY "libcurl.so.4"

struct weir_curl weir_curl;

int weir_curl_load(struct weir_err *err)
{
        static const struct {
                const char *name;
                void *place;
        } functions[] = {
#define X(name) { "curl_" #name, &weir_curl.name },
                WEIR_CURL_FUNCTIONS(X)
#undef X
        };
        void *library;

        if (weir_curl.easy_init)
                return 0;
        library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
        if (!library)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "a Kubernetes store needs " LIBRARY ": install the package libcurl4 (%s)",
                                    dlerror());
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(functions); i++) {
                void *function = dlsym(library, functions[i].name);

                if (!function) {
                        weir_curl = (struct weir_curl){ 0 };
                        return weir_err_set(err, WEIR_EUNSUPPORTED, LIBRARY " has no %s: it is too old",
                                            functions[i].name);
                }
                memcpy(functions[i].place, &function, sizeof(function));
        }
        if (weir_curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
                weir_curl = (struct weir_curl){ 0 };
                return weir_err_set(err, WEIR_EUNSUPPORTED, LIBRARY " cannot be prepared");
        }
        return 0;
}
