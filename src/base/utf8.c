/* SPDX-License-Identifier: Apache-2.0 */
/* Characters as bytes. */
#include "base/utf8.h"

size_t weir_utf8_decode(const unsigned char *p, size_t n, uint32_t *ret)
{
        static const struct {
                unsigned char mask, lead;
                uint32_t least;
        } forms[] = { { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

        for (size_t f = 0; f < WEIR_ARRAY_SIZE(forms); f++) {
                size_t length = f + 2;
                uint32_t cp;

                if ((p[0] & forms[f].mask) != forms[f].lead)
                        continue;
                if (n < length)
                        return 0;
                cp = p[0] & (unsigned char)~forms[f].mask;
                for (size_t i = 1; i < length; i++) {
                        if ((p[i] & 0xc0) != 0x80)
                                return 0;
                        cp = cp << 6 | (p[i] & 0x3f);
                }
                if (cp < forms[f].least || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
                        return 0;
                *ret = cp;
                return length;
        }
        return 0;
}

size_t weir_utf8_encode(uint32_t cp, char out[4])
{
        if (cp < 0x80) {
                out[0] = (char)cp;
                return 1;
        }
        if (cp < 0x800) {
                out[0] = (char)(0xc0 | cp >> 6);
                out[1] = (char)(0x80 | (cp & 0x3f));
                return 2;
        }
        if (cp < 0x10000) {
                out[0] = (char)(0xe0 | cp >> 12);
                out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
                out[2] = (char)(0x80 | (cp & 0x3f));
                return 3;
        }
        out[0] = (char)(0xf0 | cp >> 18);
        out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
        out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[3] = (char)(0x80 | (cp & 0x3f));
        return 4;
}

bool weir_utf8_is_visible(uint32_t cp)
{
        static const struct {
                uint32_t first, last;
        } hidden[] = {
                { 0x00, 0x1f },       { 0x7f, 0x9f },           { 0xad, 0xad },     { 0x61c, 0x61c },
                { 0x180e, 0x180e },   { 0x200b, 0x200f },       { 0x2028, 0x202e }, { 0x2060, 0x206f },
                { 0xd800, 0xdfff },   { 0xfdd0, 0xfdef },       { 0xfeff, 0xfeff }, { 0xfff0, 0xfffb },
                { 0xe0000, 0xe0fff }, { 0x110000, UINT32_MAX },
        };

        if ((cp & 0xfffe) == 0xfffe)
                return false;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(hidden); i++)
                if (cp >= hidden[i].first && cp <= hidden[i].last)
                        return false;
        return true;
}
