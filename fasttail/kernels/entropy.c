/* Entropy-coded data -> coefficients: where a JPEG's decoding spends its time.
 *
 * Bits cannot be read in parallel: where a symbol begins is known when the one before it is decoded,
 * which is a chain of a look-up and a shift, some eight cycles in which a processor could do thirty
 * things. So
 *   - a look-up gives all of a symbol: code, run of zeros, value (huffman.c);
 *   - a segment's bytes are copied without their stuffing first, so that eight of them can be fetched
 * at once, without a condition that the processor would have to guess;
 *   - `ft_blocks_two` decodes two stretches of MCUs in turn, symbol by symbol: two chains that do not
 * wait for each other take hardly longer than one. All bits are checked: each code is one, each block
 * is full, nothing is read past the end of the data.
 */
#include "jpeg.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define SELDOM(condition) __builtin_expect(!!(condition), 0)
#define SHIFT (64 - FT_CODE_BITS)

/* Where a zigzag place is in a block. Going forward may end past the block (see FT_MISFIT). */
static const uint8_t natural[256] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18,
    11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43,
    36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45,
    38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63, [64 ... 255] = 63,
};

/* --- bits ----------------------------------------------------------------------------------- */

/* At least 56 bits. */
INLINE void refill(ft_bits *in)
{
    uint64_t next;
    memcpy(&next, in->at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    in->bits |= next >> (in->count & 63);
    in->at += (63 - (in->count & 63)) >> 3;
    in->count |= 56;
}

/* Takes the bits that an entry says; the rest of it goes to the upper bits of `count`, which do not
 * count. */
INLINE void take(ft_bits *in, uint32_t entry)
{
    in->bits <<= FT_LENGTH(entry);
    in->count -= entry;
}

/* The entry of a code that does not fit into a look-up, as those are whose value does not. */
static __attribute__((noinline)) uint32_t long_code(const ft_codes *codes, uint64_t bits, int is_dc)
{
    for (int length = FT_CODE_BITS + 1; length <= 16; length++) {
        int32_t code = (int32_t)(bits >> (64 - length));
        if (code <= codes->largest[length]) {
            uint32_t symbol = codes->key[16 + ((code + codes->shift[length]) & 255)];
            uint32_t size = is_dc ? symbol : symbol & 15, run = is_dc ? 0 : symbol >> 4;
            uint32_t advance = is_dc || size || run == 15 ? run + 1 : FT_END_OF_BLOCK;
            return (uint32_t)length | size << 16 | advance << 24;
        }
    }
    return FT_NO_CODE << 24;
}

/* Takes a symbol; of its entry there is left how far to go, and the value. */
INLINE uint32_t symbol(ft_bits *in, const ft_codes *codes, int is_dc)
{
    uint32_t entry = codes->entry[in->bits >> SHIFT];
    if (SELDOM(!FT_ADVANCE(entry))) {
        refill(in);
        if (SELDOM(!entry))
            entry = long_code(codes, in->bits, is_dc);
        take(in, FT_LENGTH(entry));
        /* A value that begins with 0 is negative, and counts from the lowest of its size. */
        uint32_t size = entry >> 16 & 255u;
        int32_t value = (int32_t)(in->bits >> 1 >> (63 - size));
        value += size && (int64_t)in->bits >= 0 ? 1 - (1 << size) : 0;
        take(in, size);
        refill(in);
        return entry >> 24 << 8 | (uint32_t)value << 16;
    }
    take(in, entry);
    return entry;
}

/* --- the cursor ----------------------------------------------------------------------------- */

/* Copies what lies from `src` on without its stuffing, up to a marker or the limit. */
static int unstuff(ft_cursor *cursor, const uint8_t *src)
{
    const uint8_t *limit = cursor->limit;
    uint8_t *to = ft_grow(cursor->scratch, (size_t)(limit - src) + FT_SPARE);
    if (!to)
        return 0;
    cursor->known_src = src;
    cursor->data = cursor->known_data = to;
    for (;;) {
        const uint8_t *ff = memchr(src, 0xFF, (size_t)(limit - src));
        size_t bytes = (size_t)((ff ? ff : limit) - src);
        memcpy(to, src, bytes);
        to += bytes;
        src += bytes;
        if (!ff || (ff + 1 < cursor->jpeg->end && ff[1] != 0))
            break;
        *to++ = 0xFF;
        src += 2;
        if (src >= limit)
            break;
    }
    memset(to, 0, FT_SPARE);
    cursor->data_end = to;
    cursor->marker = src;
    cursor->in = (ft_bits){0, cursor->data, 0};
    return 1;
}

int ft_tables_make(ft_tables *tables, const ft_jpeg *jpeg)
{
    for (int c = 0; c < jpeg->layout.components; c++) {
        int dc = jpeg->component[c].dc, ac = jpeg->component[c].ac;
        if (!ft_codes_make(&tables->dc[dc], jpeg->codes[0][dc], jpeg->code_bytes[0][dc], 1) ||
            !ft_codes_make(&tables->ac[ac], jpeg->codes[1][ac], jpeg->code_bytes[1][ac], 0))
            return 0;
    }
    return 1;
}

static int64_t next_restart(const ft_jpeg *jpeg, int64_t mcu)
{
    return jpeg->interval ? (mcu / jpeg->interval + 1) * jpeg->interval : INT64_MAX;
}

int ft_cursor_open(ft_cursor *cursor, ft_scratch *scratch, const ft_jpeg *jpeg, ft_tables *tables,
                   int64_t offset, int32_t bit, const int32_t dc[FT_COMPONENTS], int64_t mcu,
                   const uint8_t *limit)
{
    cursor->jpeg = jpeg;
    cursor->scratch = scratch;
    cursor->limit = limit;
    cursor->mcu = mcu;
    cursor->restart_at = next_restart(jpeg, mcu);
    memcpy(cursor->dc, dc, sizeof cursor->dc);
    cursor->blocks = 0;
    for (int c = 0; c < jpeg->layout.components; c++)
        for (int b = 0; b < jpeg->layout.plane[c].h * jpeg->layout.plane[c].v; b++)
            cursor->slots[cursor->blocks++] = (ft_slot){.dc = &tables->dc[jpeg->component[c].dc],
                                                        .ac = &tables->ac[jpeg->component[c].ac],
                                                        .component = c};
    if (!unstuff(cursor, jpeg->scan + offset))
        return 0;
    refill(&cursor->in);
    take(&cursor->in, (uint32_t)bit);
    return 1;
}

static int64_t bits_taken(const ft_cursor *cursor)
{
    return (cursor->in.at - cursor->data) * 8 - (cursor->in.count & 63);
}

int ft_cursor_at_end(const ft_cursor *cursor)
{
    return (bits_taken(cursor) + 7) / 8 == cursor->data_end - cursor->data;
}

int64_t ft_cursor_place(ft_cursor *cursor)
{
    int64_t bits = bits_taken(cursor);
    const uint8_t *at = cursor->data + bits / 8, *from = cursor->known_data, *src = cursor->known_src;
    while (from < at) {
        const uint8_t *ff = memchr(from, 0xFF, (size_t)(at - from));
        const uint8_t *to = ff ? ff + 1 : at;
        src += to - from + (ff != NULL);
        from = to;
    }
    cursor->known_data = from;
    cursor->known_src = src;
    return (src - cursor->jpeg->scan) * 8 + bits % 8;
}

int ft_cursor_restart(ft_cursor *cursor)
{
    const uint8_t *marker = cursor->marker;
    int64_t number = cursor->mcu / cursor->jpeg->interval - 1;
    if (!ft_cursor_at_end(cursor) || cursor->limit - marker < 2 || marker[0] != 0xFF ||
        marker[1] != 0xD0 + (number & 7))
        return 0;
    memset(cursor->dc, 0, sizeof cursor->dc);
    cursor->restart_at = next_restart(cursor->jpeg, cursor->mcu);
    return unstuff(cursor, marker + 2);
}

/* How many MCUs can follow here, of `mcus`: up to the next restart, past which it goes if it stands
 * there. 0 if the marker is not there. */
static int64_t stretch(ft_cursor *cursor, int64_t mcus)
{
    if (cursor->mcu == cursor->restart_at && !ft_cursor_restart(cursor))
        return 0;
    int64_t left = cursor->restart_at - cursor->mcu;
    return mcus < left ? mcus : left;
}

/* Whether no more was read than there is. A block reads so little that it can be asked once a block:
 * what lies behind the data are zeros, of which FT_SPARE bytes are there. */
INLINE int within(const ft_bits *in, const uint8_t *data_end) { return in->at <= data_end + 8; }

/* --- walking -------------------------------------------------------------------------------- */

/* Whether a block ends at this place as it should: full, or by its end after fewer coefficients. */
INLINE int ends_well(uint32_t place)
{
    return place == FT_BLOCK - 1 || place - FT_END_OF_BLOCK < FT_BLOCK - 1;
}

INLINE int walk_block(ft_bits *in, const ft_codes *dc, const ft_codes *ac, int32_t *predictor)
{
    refill(in);
    uint32_t entry = symbol(in, dc, 1), place = 0;
    if (SELDOM(FT_ADVANCE(entry) == FT_NO_CODE))
        return 0;
    *predictor += FT_VALUE(entry);
    for (;;) {
        refill(in);
        for (int i = 0; i < 5; i++) {
            uint64_t bits = in->bits;
            uint32_t several = ac->several[bits >> SHIFT];
            take(in, several & 63);
            place += several >> 6;
            if (several && place < FT_BLOCK - 1)
                continue;
            if (several && ends_well(place))
                return 1;
            /* The first symbol does not fit, or the last ones are of the next block: one alone. */
            in->bits = bits;
            in->count += several & 63;
            place -= several >> 6;
            place += FT_ADVANCE(symbol(in, ac, 0));
            if (place >= FT_BLOCK - 1)
                return ends_well(place);
        }
    }
}

static int walk_stretch(ft_cursor *cursor, int64_t mcus)
{
    ft_bits in = cursor->in;
    const uint8_t *data_end = cursor->data_end;
    for (int64_t mcu = 0; mcu < mcus; mcu++)
        for (int32_t b = 0; b < cursor->blocks; b++) {
            const ft_slot *slot = &cursor->slots[b];
            if (!walk_block(&in, slot->dc, slot->ac, &cursor->dc[slot->component]) ||
                !within(&in, data_end))
                return 0;
        }
    cursor->in = in;
    return 1;
}

int ft_walk(ft_cursor *cursor, int64_t mcus)
{
    for (int32_t b = 0; b < cursor->blocks; b++)
        ft_codes_several((ft_codes *)cursor->slots[b].ac);
    while (mcus > 0) {
        int64_t some = stretch(cursor, mcus);
        if (!some || !walk_stretch(cursor, some))
            return 0;
        cursor->mcu += some;
        mcus -= some;
    }
    return 1;
}

/* --- decoding ------------------------------------------------------------------------------- */

/* One chain: a cursor's inner state, which the compiler keeps in registers. */
typedef struct {
    ft_bits in;
    const ft_codes *ac;
    int16_t *block;
    uint32_t place; /* of the last coefficient; from 63 on the block is done */
    ft_slot *slot, *slots_end;
    int64_t left;     /* blocks, this one among them */
    uint32_t misfits; /* FT_MISFIT of this: whether anything was not as it should be */
    ft_cursor *cursor;
} chain;

/* By stores of a vector each: for so few bytes, what a compiler takes for memset may start up slower
 * than that. */
INLINE void clear(int16_t *block)
{
    typedef int16_t vector __attribute__((vector_size(16), aligned(2), may_alias));
    for (int i = 0; i < FT_BLOCK / 8; i++)
        ((vector *)block)[i] = (vector){0};
}

/* The block that `slot` is for, up to its AC coefficients. */
INLINE void begin_block(chain *c)
{
    ft_slot *slot = c->slot;
    int16_t *block = slot->block;
    slot->block = block + slot->next;
    clear(block);
    refill(&c->in);
    uint32_t entry = symbol(&c->in, slot->dc, 1);
    c->misfits |= FT_ADVANCE(entry); /* 1, or FT_NO_CODE */
    int32_t dc = c->cursor->dc[slot->component] += FT_VALUE(entry);
    block[0] = (int16_t)dc;
    c->block = block;
    c->ac = slot->ac;
    c->place = 0;
    refill(&c->in);
}

INLINE chain begin(ft_cursor *cursor, int64_t mcus)
{
    chain c = {.in = cursor->in,
               .cursor = cursor,
               .slot = cursor->slots,
               .slots_end = cursor->slots + cursor->blocks,
               .left = mcus * cursor->blocks};
    begin_block(&c);
    return c;
}

INLINE void step(chain *c)
{
    uint32_t entry = symbol(&c->in, c->ac, 0);
    c->place += FT_ADVANCE(entry);
    c->block[natural[c->place]] = FT_VALUE(entry);
}

INLINE int done(const chain *c) { return c->place >= FT_BLOCK - 1; }

/* The next block. 0 if there is none, or no data. */
INLINE int next_block(chain *c)
{
    c->misfits |= c->place;
    if (SELDOM(--c->left == 0) || SELDOM(!within(&c->in, c->cursor->data_end)))
        return 0;
    if (++c->slot == c->slots_end)
        c->slot = c->cursor->slots;
    begin_block(c);
    return 1;
}

INLINE void finish(chain *c)
{
    while (!done(c) || next_block(c)) {
        refill(&c->in);
        for (int i = 0; i < 5 && !done(c); i++)
            step(c);
    }
}

/* Back into the cursor; whether all was as it should be. */
INLINE int end(chain *c)
{
    c->cursor->in = c->in;
    return c->left == 0 && !FT_MISFIT(c->misfits) &&
           bits_taken(c->cursor) <= 8 * (c->cursor->data_end - c->cursor->data);
}

static int blocks_stretch(ft_cursor *cursor, int64_t mcus)
{
    chain c = begin(cursor, mcus);
    finish(&c);
    return end(&c);
}

static int blocks_stretch_two(ft_cursor *cursor_a, ft_cursor *cursor_b, int64_t mcus)
{
    chain a = begin(cursor_a, mcus), b = begin(cursor_b, mcus);
    for (;;) {
        refill(&a.in);
        refill(&b.in);
        /* Five look-ups take at most 55 bits of 56. */
        for (int i = 0; i < 5; i++) {
            step(&a);
            step(&b);
            if (done(&a) && !next_block(&a)) {
                finish(&b);
                return end(&a) & end(&b);
            }
            if (done(&b) && !next_block(&b)) {
                finish(&a);
                return end(&a) & end(&b);
            }
        }
    }
}

int ft_blocks(ft_cursor *cursor, int64_t mcus)
{
    while (mcus > 0) {
        int64_t some = stretch(cursor, mcus);
        if (!some || !blocks_stretch(cursor, some))
            return 0;
        cursor->mcu += some;
        mcus -= some;
    }
    return 1;
}

int ft_blocks_two(ft_cursor *a, ft_cursor *b, int64_t mcus)
{
    while (mcus > 0) {
        int64_t some = stretch(a, mcus);
        some = some ? stretch(b, some) : 0;
        if (!some || !blocks_stretch_two(a, b, some))
            return 0;
        a->mcu += some;
        b->mcu += some;
        mcus -= some;
    }
    return 1;
}
