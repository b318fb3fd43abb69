/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership that one function shows: locals that clean up after themselves, and the words that take a value out of
 * them. */
#pragma once

#include <stdlib.h>

#define WEIR_MUST __attribute__((warn_unused_result))
#define WEIR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define WEIR_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Runs weir_<name>_cleanup(&variable) at the end of the scope; see WEIR_DEFINE_CLEANUP. */
#define weir_auto(name) __attribute__((cleanup(weir_##name##_cleanup)))

/* Defines weir_<name>_cleanup() for weir_auto(name) from a function that frees a pointer and accepts NULL. */
#define WEIR_DEFINE_CLEANUP(name, type, free_function)    \
        static inline void weir_##name##_cleanup(type *p) \
        {                                                 \
                free_function(*p);                        \
        }

#define weir_auto_free __attribute__((cleanup(weir_free_cleanup)))
#define weir_auto_close __attribute__((cleanup(weir_close_cleanup)))

static inline void weir_free_cleanup(void *p)
{
        free(*(void **)p);
}

/* Closes *fd unless it is negative; keeps errno. */
void weir_close_cleanup(int *fd);

/* Moves a pointer out of an owning variable, which is then NULL. */
#define TAKE_PTR(p)                         \
        ({                                  \
                __typeof__(p) taken_ = (p); \
                (p) = NULL;                 \
                taken_;                     \
        })

/* Moves a descriptor out of an owning variable, which is then -1. */
#define TAKE_FD(fd)                \
        ({                         \
                int taken_ = (fd); \
                (fd) = -1;         \
                taken_;            \
        })
