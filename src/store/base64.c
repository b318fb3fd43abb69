/* SPDX-License-Identifier: Apache-2.0 */
/* Base64. */
#include "store/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
#define PADDING 64

int weir_base64_decode(const char *text, char **ret)
{
        weir_auto_free char *bytes = malloc(strlen(text) / 4 * 3 + 4);
        uint32_t bits = 0;
        unsigned n_bits = 0, padding = 0;
        size_t n = 0;

        if (!bytes)
                return -ENOMEM;
        for (; *text; text++) {
                const char *place;

                if (strchr(" \t\r\n", *text))
                        continue;
                if (*text == '=') {
                        padding++;
                        continue;
                }
                place = strchr(alphabet, *text);
                if (!place || padding > 0)
                        return -EINVAL;
                bits = bits << 6 | (uint32_t)(place - alphabet);
                n_bits += 6;
                if (n_bits < 8)
                        continue;
                n_bits -= 8;
                bytes[n] = (char)(bits >> n_bits & 0xff);
                if (bytes[n++] == '\0')
                        return -EINVAL;
        }
        if (padding > 2 || n_bits >= 6)
                return -EINVAL;
        bytes[n] = '\0';
        *ret = TAKE_PTR(bytes);
        return 0;
}

char *weir_base64_encode(const char *bytes, size_t n)
{
        char *text = malloc((n + 2) / 3 * 4 + 1), *at = text;

        if (!text)
                return NULL;
        for (size_t i = 0; i < n; i += 3) {
                size_t have = n - i < 3 ? n - i : 3;
                uint32_t bits = 0;

                for (size_t j = 0; j < 3; j++)
                        bits = bits << 8 | (j < have ? (uint8_t)bytes[i + j] : 0u);
                for (size_t j = 0; j < 4; j++)
                        *at++ = alphabet[j <= have ? bits >> (18 - 6 * j) & 63 : PADDING];
        }
        *at = '\0';
        return text;
}
