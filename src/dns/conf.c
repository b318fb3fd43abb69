/* SPDX-License-Identifier: Apache-2.0 */
/* The host's resolv.conf, resolv.conf(5): only its nameserver lines matter here. */
#include "dns/resolver.h"

#include <string.h>

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r';
}

/* "nameserver ADDRESS" at the start of a line, as libc reads it; what follows the address is ignored. */
static bool read_line(const char *line, size_t n, struct weir_addr *ret)
{
        static const char key[] = "nameserver";
        char text[WEIR_ADDR_STRLEN];
        size_t at = sizeof(key) - 1, length = 0;

        if (n <= at || memcmp(line, key, at) != 0 || !is_blank(line[at]))
                return false;
        while (at < n && is_blank(line[at]))
                at++;
        while (at < n && !is_blank(line[at]) && line[at] != '#' && line[at] != ';') {
                if (length + 1 >= sizeof(text))
                        return false;
                text[length++] = line[at++];
        }
        text[length] = '\0';
        return weir_addr_parse(text, ret) == 0;
}

size_t weir_resolver_read_conf(const char *text, size_t length, struct weir_addr *ret, size_t n)
{
        size_t found = 0;

        while (length > 0 && found < n) {
                const char *newline = memchr(text, '\n', length);
                size_t line = newline ? (size_t)(newline - text) : length;

                if (read_line(text, line, &ret[found]))
                        found++;
                line += newline != NULL;
                text += line;
                length -= line;
        }
        return found;
}
