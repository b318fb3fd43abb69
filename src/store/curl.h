/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl, loaded when a cluster is named and not before: it brings thirty libraries along, which would take a third of
 * the time that `weir run` may take to start, and most of its memory, for stores that are folders. Private to store/.
 */
#pragma once

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt
#undef curl_share_setopt

#include "base/cleanup.h"

struct weir_err;

/* The functions that are used, each under its own name without "curl_". */
#define WEIR_CURL_FUNCTIONS(X) \
        X(global_init)         \
        X(free)                \
        X(easy_init)           \
        X(easy_cleanup)        \
        X(easy_reset)          \
        X(easy_setopt)         \
        X(easy_getinfo)        \
        X(easy_perform)        \
        X(easy_strerror)       \
        X(easy_escape)         \
        X(multi_init)          \
        X(multi_cleanup)       \
        X(multi_setopt)        \
        X(multi_add_handle)    \
        X(multi_remove_handle) \
        X(multi_socket_action) \
        X(multi_info_read)     \
        X(slist_append)        \
        X(slist_free_all)

struct weir_curl {
#define X(name) __typeof__(&curl_##name) name;
        WEIR_CURL_FUNCTIONS(X)
#undef X
};
extern struct weir_curl weir_curl;

/* To be called before any of them; again is fine. WEIR_EUNSUPPORTED with @err, which names the package. */
WEIR_MUST int weir_curl_load(struct weir_err *err);
