/* SPDX-License-Identifier: Apache-2.0 */
/* Names, addresses and ports. */
#include "model/names.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/strutil.h"
#include "base/utf8.h"

#define LABEL_MAX 63
#define DOMAIN_MAX 255
#define SUBDOMAIN_MAX 253
#define QUOTED_CHARACTER_MAX 12 /* \U0010ffff, the closing quote and NUL */

static void complain(struct weir_check *check, const char *format, ...) WEIR_PRINTF(2, 3);

static void complain(struct weir_check *check, const char *format, ...)
{
        va_list args;

        if (check->n == WEIR_ARRAY_SIZE(check->text))
                return;
        va_start(args, format);
        (void)vsnprintf(check->text[check->n++], WEIR_CHECK_TEXT, format, args);
        va_end(args);
}

const char *weir_go_quote(const char *text, char *buf, size_t n)
{
        const unsigned char *p = (const unsigned char *)text;
        size_t used = 0;

        buf[used++] = '"';
        for (size_t length = 1; *p && used + QUOTED_CHARACTER_MAX < n; p += length) {
                uint32_t cp = *p;

                length = *p < 0x80 ? 1 : weir_utf8_decode(p, strnlen((const char *)p, 4), &cp);
                if (length == 0)
                        length = 1;
                if (cp == '"' || cp == '\\')
                        used += (size_t)snprintf(buf + used, n - used, "\\%c", (int)cp);
                else if (cp == '\n' || cp == '\t' || cp == '\r')
                        used += (size_t)snprintf(buf + used, n - used, "\\%c",
                                                 cp == '\n' ? 'n' :
                                                 cp == '\t' ? 't' :
                                                              'r');
                else if (weir_utf8_is_visible(cp))
                        used += (size_t)snprintf(buf + used, n - used, "%.*s", (int)length, (const char *)p);
                else
                        used += (size_t)snprintf(buf + used, n - used,
                                                 cp < 0x80    ? "\\x%02x" :
                                                 cp < 0x10000 ? "\\u%04x" :
                                                                "\\U%08x",
                                                 cp);
        }
        buf[used++] = '"';
        buf[used] = '\0';
        return buf;
}

static bool is_alnum(char c, enum weir_rules rules)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (rules == WEIR_RULES_TODAY && c >= 'A' && c <= 'Z');
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])?, 1 to 63 characters; today capitals too. */
static bool is_label(const char *text, size_t n, enum weir_rules rules)
{
        if (n == 0 || n > LABEL_MAX || !is_alnum(text[0], rules) || !is_alnum(text[n - 1], rules))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!is_alnum(text[i], rules) && text[i] != '-')
                        return false;
        return true;
}

/* (\*|(\*|\*-)?LABEL) */
static bool is_wildcard_label(const char *text, size_t n, enum weir_rules rules)
{
        if (n == 1 && text[0] == '*')
                return true;
        if (n > LABEL_MAX)
                return false;
        if (n > 0 && text[0] == '*') {
                text++;
                n--;
                if (n > 0 && text[0] == '-') {
                        text++;
                        n--;
                }
        }
        return is_label(text, n, rules);
}

static bool preconditions(const char *name, struct weir_check *ret)
{
        char quoted[WEIR_CHECK_TEXT / 2];

        if (strlen(name) > DOMAIN_MAX)
                complain(ret, "domain name %s too long (max %d)", weir_go_quote(name, quoted, sizeof(quoted)),
                         DOMAIN_MAX);
        else if (name[0] == '\0')
                complain(ret, "empty domain name not allowed");
        return ret->n == 0;
}

static void bad_label(const char *name, const char *label, size_t n, struct weir_check *ret)
{
        char text[WEIR_CHECK_TEXT / 2], whole[WEIR_CHECK_TEXT / 2], quoted[WEIR_CHECK_TEXT / 2];

        (void)snprintf(text, sizeof(text), "%.*s", (int)n, label);
        complain(ret, "domain name %s invalid (label %s invalid)", weir_go_quote(name, whole, 320),
                 weir_go_quote(text, quoted, 320));
}

/* strconv.Atoi(): a sign and digits. */
static bool all_numeric(const char *label)
{
        if (*label == '+' || *label == '-')
                label++;
        return *label != '\0' && strspn(label, "0123456789") == strlen(label);
}

static void check_labels(const char *name, enum weir_rules rules, struct weir_check *ret)
{
        const char *last = strrchr(name, '.');
        char whole[WEIR_CHECK_TEXT / 2], top[WEIR_CHECK_TEXT / 2];

        last = last ? last + 1 : name;
        if (rules == WEIR_RULES_TODAY && all_numeric(last)) {
                complain(ret, "domain name %s invalid (top level domain %s cannot be all-numeric)",
                         weir_go_quote(name, whole, 320), weir_go_quote(last, top, 320));
                return;
        }
        for (const char *label = name;;) {
                size_t n = strcspn(label, ".");

                /* Today a dot at the end makes a name unambiguous. */
                if (rules == WEIR_RULES_TODAY && n == 0 && label[n] == '\0')
                        return;
                if (!is_label(label, n, rules)) {
                        bad_label(name, label, n, ret);
                        return;
                }
                if (label[n] == '\0')
                        return;
                label += n + 1;
        }
}

void weir_check_fqdn(const char *name, enum weir_rules rules, struct weir_check *ret)
{
        ret->n = 0;
        /* Both are said where both are wrong, as Istio does. */
        (void)preconditions(name, ret);
        if (rules == WEIR_RULES_TODAY && ret->n > 0)
                return;
        check_labels(name, rules, ret);
}

void weir_check_wildcard_domain(const char *name, enum weir_rules rules, struct weir_check *ret)
{
        size_t n = strcspn(name, ".");

        ret->n = 0;
        if (!preconditions(name, ret))
                return;
        if (!is_wildcard_label(name, n, rules))
                bad_label(name, name, n, ret);
        else if (name[n] == '.')
                check_labels(name + n + 1, rules, ret);
}

bool weir_is_partial_wildcard(const char *name)
{
        return strchr(name, '*') && !weir_streq(name, "*") && !weir_starts_with(name, "*.");
}

static bool one_slash(const char *text)
{
        const char *slash = strchr(text, '/');

        return slash && !strchr(slash + 1, '/');
}

void weir_check_ipv4(const char *text, struct weir_check *ret)
{
        struct weir_addr addr;

        ret->n = 0;
        if (weir_addr_parse(text, &addr) < 0)
                complain(ret, "%.400s is not a valid IP", text);
        else if (!weir_addr_is_v4(&addr))
                complain(ret, "%.400s is not a valid IPv4 address", text);
}

void weir_check_ipv4_or_cidr(const char *text, struct weir_check *ret)
{
        struct weir_prefix prefix;

        ret->n = 0;
        if (!one_slash(text))
                weir_check_ipv4(text, ret);
        else if (weir_prefix_parse(text, &prefix, NULL) < 0)
                complain(ret, "%.400s is not a valid CIDR block", text);
        else {
                char host[WEIR_ADDR_STRLEN];
                struct weir_addr addr;

                /* The address as written decides, as in Istio: ::ffff:1.2.3.4/24 is IPv4 to it. */
                (void)snprintf(host, sizeof(host), "%.*s", (int)strcspn(text, "/"), text);
                if (weir_addr_parse(host, &addr) < 0 || !weir_addr_is_v4(&addr))
                        complain(ret, "%.400s is not a valid IPv4 address", text);
        }
}

void weir_check_ip_or_cidr(const char *text, struct weir_check *ret)
{
        struct weir_prefix prefix;
        struct weir_addr addr;

        ret->n = 0;
        if (one_slash(text)) {
                if (weir_prefix_parse(text, &prefix, NULL) < 0)
                        complain(ret, "%.400s is not a valid CIDR block", text);
        } else if (weir_addr_parse(text, &addr) < 0)
                complain(ret, "%.400s is not a valid IP", text);
}

void weir_check_port(int64_t number, struct weir_check *ret)
{
        ret->n = 0;
        if (number < 1 || number > UINT16_MAX)
                complain(ret, "port number %" PRId64 " must be in the range 1..65535", number);
}

void weir_check_port_name(const char *name, enum weir_rules rules, struct weir_check *ret)
{
        ret->n = 0;
        if (!is_label(name, strlen(name), rules))
                complain(ret, "invalid port name: %.400s", name);
}

bool weir_is_dns1123_label(const char *text)
{
        return is_label(text, strlen(text), WEIR_RULES_0_7);
}

bool weir_is_dns1123_subdomain(const char *text)
{
        if (strlen(text) > SUBDOMAIN_MAX)
                return false;
        for (;;) {
                size_t n = strcspn(text, ".");

                if (!is_label(text, n, WEIR_RULES_0_7))
                        return false;
                if (text[n] == '\0')
                        return true;
                text += n + 1;
        }
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* [A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?, as Kubernetes has names of labels and, where not empty, values. */
static bool is_qualified(const char *text)
{
        size_t n = strlen(text);

        return n > 0 && n <= LABEL_MAX && strspn(text, ALNUM "-_.") == n && strspn(text, ALNUM) > 0 &&
               strchr(ALNUM, text[n - 1]);
}

/* [PREFIX/]NAME, the prefix a DNS subdomain. */
static bool is_tag_key(const char *text)
{
        const char *slash = strchr(text, '/');
        char prefix[SUBDOMAIN_MAX + 2];

        if (!slash)
                return is_qualified(text);
        (void)snprintf(prefix, sizeof(prefix), "%.*s", (int)(slash - text), text);
        return weir_is_dns1123_subdomain(prefix) && is_qualified(slash + 1);
}

/* In 0.7 both were ^[-A-Za-z0-9_./]*$, empty included. */
void weir_check_tag(const char *key, const char *value, enum weir_rules rules, struct weir_check *ret)
{
        static const char old[] = ALNUM "-_./";
        bool key_fits = rules == WEIR_RULES_0_7 ? strspn(key, old) == strlen(key) : is_tag_key(key);
        bool value_fits =
                rules == WEIR_RULES_0_7 ? strspn(value, old) == strlen(value) : value[0] == '\0' || is_qualified(value);
        char quoted[WEIR_CHECK_TEXT / 2];

        ret->n = 0;
        if (!key_fits)
                complain(ret, "invalid tag key: %s", weir_go_quote(key, quoted, sizeof(quoted)));
        if (!value_fits)
                complain(ret, "invalid tag value: %s", weir_go_quote(value, quoted, sizeof(quoted)));
}
