/* A fast answer for good files: reads all of a baseline JPEG's entropy-coded data without making
 * pixels of it, which takes less than half of libjpeg's time.
 *
 * It says yes only where libjpeg would decode without a warning: one scan, every code a valid one,
 * every block full, each restart marker and the end marker right where the data ends. About anything
 * else it says nothing, and libjpeg is asked. So it needs to know neither all of JPEG nor all kinds
 * of damage.
 *
 * The data is copied without its stuffing; then symbols are looked up by the next 12 bits, two at a
 * time where two fit. A symbol's extra bits are passed over, not read.
 */

#include "fasttail.h"

#include <stdlib.h>
#include <string.h>

#define BITS 12
#define ENTRIES (1 << BITS)
#define LENGTH 31u             /* an entry: code and extra bits together, 0 if the code is longer */
#define ADVANCE(e) ((e) >> 5 & 127u) /* coefficients that it goes forward */
#define END 0x8000u            /* it ends the block */
#define SPARE 512              /* bytes that a block may be read beyond the data: at most 256 */
#define MAX_DIMENSION 65500    /* libjpeg's */

typedef struct {
    int there;
    uint8_t counts[17];
    uint8_t symbols[256];
    int32_t largest[17]; /* the largest code of a length, -1 if there is none */
    int32_t shift[17];   /* code + shift = place among the symbols */
    uint16_t one[ENTRIES];
    uint16_t two[ENTRIES];
} codes;

typedef struct {
    const uint8_t *at, *end;
    int height, width, components;
    struct {
        int id, h, v, quantizer, dc, ac;
    } component[3];
    int quantizers;         /* bit set of those that are there */
    int interval;           /* MCUs between restart markers, 0 for none */
    codes dc[4], ac[4];
    uint8_t *data;          /* a segment without its stuffing */
} scanner;

static int word(const uint8_t *p) { return p[0] << 8 | p[1]; }

static unsigned entry(int length, int symbol, int is_dc)
{
    int run = symbol >> 4, size = symbol & 15;
    if (is_dc)
        return (unsigned)(length + symbol);
    if (size == 0 && run != 15)
        return END | (unsigned)length;
    return (unsigned)(run + 1) << 5 | (unsigned)(length + size);
}

/* 0 if it is no table that libjpeg takes. */
static int make_codes(codes *table, const uint8_t *segment, int total, int is_dc)
{
    table->there = 1;
    memcpy(table->counts + 1, segment, 16);
    memset(table->symbols, 0, sizeof table->symbols);
    memcpy(table->symbols, segment + 16, (size_t)total);
    memset(table->one, 0, sizeof table->one);
    int code = 0, place = 0;
    for (int length = 1; length <= 16; length++) {
        table->shift[length] = place - code;
        for (int i = 0; i < table->counts[length]; i++, code++, place++) {
            if (is_dc && table->symbols[place] > 15)
                return 0;
            if (length > BITS)
                continue;
            unsigned e = entry(length, table->symbols[place], is_dc);
            int first = code << (BITS - length);
            if (first + (1 << (BITS - length)) > ENTRIES)
                return 0;
            for (int k = 0; k < 1 << (BITS - length); k++)
                table->one[first + k] = (uint16_t)e;
        }
        table->largest[length] = table->counts[length] ? code - 1 : -1;
        if (table->counts[length] && code >= 1 << length) /* no code is all ones */
            return 0;
        code <<= 1;
    }
    for (int bits = 0; bits < ENTRIES; bits++) {
        unsigned e = table->one[bits], length = e & LENGTH;
        table->two[bits] = (uint16_t)e;
        if (!e || e & END || length >= BITS)
            continue;
        unsigned next = table->one[(bits << length) & (ENTRIES - 1)];
        if (next && length + (next & LENGTH) <= BITS)
            table->two[bits] = (uint16_t)((next & END) | (ADVANCE(e) + ADVANCE(next)) << 5 |
                                          (length + (next & LENGTH)));
    }
    return 1;
}

static int read_tables(scanner *s, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        if (end - p < 17 || p[0] & 0xEC)
            return 0;
        int total = 0;
        for (int i = 1; i <= 16; i++)
            total += p[i];
        if (total > 256 || end - p < 17 + total)
            return 0;
        codes *table = p[0] & 0x10 ? &s->ac[p[0] & 3] : &s->dc[p[0] & 3];
        if (!make_codes(table, p + 1, total, !(p[0] & 0x10)))
            return 0;
        p += 17 + total;
    }
    return 1;
}

static int read_quantizers(scanner *s, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        if (p[0] & 0xFC) /* 16-bit ones too: rare */
            return 0;
        s->quantizers |= 1 << p[0];
        p += 65;
    }
    return p == end;
}

static int read_frame(scanner *s, const uint8_t *p, const uint8_t *end)
{
    if (s->components || end - p < 6 || p[0] != 8)
        return 0;
    s->height = word(p + 1);
    s->width = word(p + 3);
    s->components = p[5];
    if (!s->height || !s->width || s->height > MAX_DIMENSION || s->width > MAX_DIMENSION ||
        (int64_t)s->height * s->width > FT_MAX_PIXELS ||
        (s->components != 1 && s->components != 3) || end - p != 6 + 3 * s->components)
        return 0;
    for (int c = 0; c < s->components; c++, p += 3) {
        s->component[c].id = p[6];
        s->component[c].h = p[7] >> 4;
        s->component[c].v = p[7] & 15;
        s->component[c].quantizer = p[8];
        if (s->component[c].h < 1 || s->component[c].h > 4 || s->component[c].v < 1 ||
            s->component[c].v > 4 || p[8] > 3)
            return 0;
        for (int k = 0; k < c; k++)
            if (s->component[k].id == p[6])
                return 0;
    }
    return 1;
}

static int read_scan(scanner *s, const uint8_t *p, const uint8_t *end)
{
    if (!s->components || end - p != 4 + 2 * s->components || p[0] != s->components)
        return 0;
    for (int c = 0; c < s->components; c++) {
        int dc = p[2 + 2 * c] >> 4, ac = p[2 + 2 * c] & 15;
        if (p[1 + 2 * c] != s->component[c].id || dc > 3 || ac > 3 || !s->dc[dc].there ||
            !s->ac[ac].there || !(s->quantizers >> s->component[c].quantizer & 1))
            return 0;
        s->component[c].dc = dc;
        s->component[c].ac = ac;
    }
    p += 1 + 2 * s->components;
    return p[0] == 0 && p[1] == 63 && p[2] == 0;
}

/* Up to the entropy-coded data. */
static int read_header(scanner *s)
{
    if (s->end - s->at < 4 || word(s->at) != 0xFFD8)
        return 0;
    s->at += 2;
    while (s->end - s->at >= 4) {
        const uint8_t *body = s->at + 4, *next = s->at + 2 + word(s->at + 2);
        int marker = s->at[1];
        if (s->at[0] != 0xFF || next < body || next > s->end)
            return 0;
        int good = 1;
        if (marker == 0xC0 || marker == 0xC1)
            good = read_frame(s, body, next);
        else if (marker == 0xC4)
            good = read_tables(s, body, next);
        else if (marker == 0xDB)
            good = read_quantizers(s, body, next);
        else if (marker == 0xDD)
            good = next - body == 2 && (s->interval = word(body), 1);
        else if (marker == 0xE0) /* libjpeg warns of other versions of JFIF than 1 */
            good = next - body < 14 || memcmp(body, "JFIF", 5) || body[5] == 1;
        else if (marker == 0xEE) /* and of colour transforms it does not know */
            good = next - body < 12 || memcmp(body, "Adobe", 5) || body[11] <= 1;
        else if (marker == 0xDA) {
            s->at = next;
            return read_scan(s, body, next);
        } else if (!((marker >= 0xE1 && marker <= 0xEF) || marker == 0xFE))
            good = 0;
        if (!good)
            return 0;
        s->at = next;
    }
    return 0;
}

/* Copies the data up to the next marker, which `at` is then on; its length, -1 if there is none. */
static int64_t unstuff(scanner *s)
{
    uint8_t *to = s->data;
    for (;;) {
        const uint8_t *ff = memchr(s->at, 0xFF, (size_t)(s->end - s->at));
        if (!ff || ff + 1 >= s->end)
            return -1;
        memcpy(to, s->at, (size_t)(ff - s->at));
        to += ff - s->at;
        s->at = ff;
        if (ff[1] != 0)
            break;
        *to++ = 0xFF;
        s->at += 2;
    }
    memset(to, 0, SPARE);
    return to - s->data;
}

typedef struct {
    const uint8_t *at;
    uint64_t bits; /* the next bits, from the top */
    int count;     /* how many of them are counted as read; more may be there */
} reader;

/* At least 56 bits: without a condition, for the processor could not guess it. */
static inline void refill(reader *r)
{
    uint64_t next;
    memcpy(&next, r->at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    r->bits |= next >> r->count;
    r->at += (63 - r->count) >> 3;
    r->count |= 56;
}

static inline void pass(reader *r, unsigned bits)
{
    r->bits <<= bits;
    r->count -= (int)bits;
}

/* The entry of a code of more than BITS bits; 0 if there is no such code. */
static unsigned long_code(const codes *table, uint64_t bits, int is_dc)
{
    for (int length = BITS + 1; length <= 16; length++) {
        int code = (int)(bits >> (64 - length));
        if (code <= table->largest[length])
            return entry(length, table->symbols[(code + table->shift[length]) & 255], is_dc);
    }
    return 0;
}

static int read_block(reader *r, const codes *dc, const codes *ac)
{
    refill(r);
    unsigned e = dc->one[r->bits >> (64 - BITS)];
    if (!e && !(e = long_code(dc, r->bits, 1)))
        return 0;
    pass(r, e & LENGTH);
    for (unsigned k = 1; k < 64;) {
        refill(r);
        e = ac->two[r->bits >> (64 - BITS)];
        if (!e && !(e = long_code(ac, r->bits, 0)))
            return 0;
        if (k + ADVANCE(e) > 63 && !(k + ADVANCE(e) == 64 && !(e & END))) {
            /* Two symbols may be one too many: the second would belong to the next block. */
            unsigned single = ac->one[r->bits >> (64 - BITS)];
            e = single ? single : e;
            if (k + ADVANCE(e) > 64)
                return 0;
        }
        pass(r, e & LENGTH);
        if (e & END)
            return 1;
        k += ADVANCE(e);
    }
    return 1;
}

/* `mcus` of them, from a segment of `length` bytes, which must end with them. */
static int read_segment(const scanner *s, int64_t length, int64_t mcus)
{
    reader r = {s->data, 0, 0};
    const uint8_t *limit = s->data + length + 8;
    for (int64_t mcu = 0; mcu < mcus; mcu++)
        for (int c = 0; c < s->components; c++) {
            int blocks = s->components == 1 ? 1 : s->component[c].h * s->component[c].v;
            for (int b = 0; b < blocks; b++)
                if (!read_block(&r, &s->dc[s->component[c].dc], &s->ac[s->component[c].ac]) ||
                    r.at > limit)
                    return 0;
        }
    int64_t used = (r.at - s->data) * 8 - r.count;
    return (used + 7) / 8 == length;
}

static int read_data(scanner *s)
{
    int h = 1, v = 1, blocks = 0;
    if (s->components == 3) {
        for (int c = 0; c < 3; c++) {
            h = s->component[c].h > h ? s->component[c].h : h;
            v = s->component[c].v > v ? s->component[c].v : v;
        }
        for (int c = 0; c < 3; c++) {
            if (h % s->component[c].h || v % s->component[c].v)
                return 0;
            blocks += s->component[c].h * s->component[c].v;
        }
        if (blocks > 10)
            return 0;
    }
    int64_t left = ((s->width + 8 * h - 1) / (8 * h)) * (int64_t)((s->height + 8 * v - 1) / (8 * v));
    for (int restart = 0; left; restart++) {
        int64_t mcus = s->interval && s->interval < left ? s->interval : left;
        int64_t length = unstuff(s);
        if (length < 0 || !read_segment(s, length, mcus))
            return 0;
        left -= mcus;
        if (s->at[1] != (left ? 0xD0 + (restart & 7) : 0xD9))
            return 0;
        s->at += 2;
    }
    return 1;
}

int ft_jpeg_is_good(const uint8_t *src, int64_t size, int32_t *height, int32_t *width)
{
    if (size < 4)
        return 0;
    scanner *s = malloc(sizeof *s);
    uint8_t *data = malloc((size_t)size + SPARE);
    int good = 0;
    if (s && data) {
        s->at = src;
        s->end = src + size;
        s->components = s->quantizers = s->interval = s->height = s->width = 0;
        s->data = data;
        for (int i = 0; i < 4; i++)
            s->dc[i].there = s->ac[i].there = 0;
        good = read_header(s) && read_data(s);
        *height = s->height;
        *width = s->width;
    }
    free(data);
    free(s);
    return good;
}
