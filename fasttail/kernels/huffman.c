/* Huffman tables for one look-up a symbol: the next bits tell a code, and with it how many zeros, how
 * many bits and which value, for nearly every symbol at once. */
#include "jpeg.h"

#include <string.h>

#define BITS FT_CODE_BITS

static uint32_t advance_of(int symbol, int is_dc)
{
    if (is_dc)
        return 1;
    return symbol & 15 || symbol == 0xF0 ? (uint32_t)(symbol >> 4) + 1 : FT_END_OF_BLOCK;
}

static void fill(uint32_t *entry, int count, uint32_t value)
{
    for (int k = 0; k < count; k++)
        entry[k] = value;
}

/* All entries that begin with a code of `length` bits. */
static void enter(uint32_t *entry, int length, int symbol, int is_dc)
{
    int size = is_dc ? symbol : symbol & 15, rest = BITS - length - size;
    uint32_t advance = advance_of(symbol, is_dc);
    if (rest < 0) {
        fill(entry, 1 << (BITS - length), (uint32_t)length | (uint32_t)size << 16 | advance << 24);
        return;
    }
    for (int bits = 0; bits < 1 << size; bits++, entry += 1 << rest) {
        int value = size && bits < 1 << (size - 1) ? bits - (1 << size) + 1 : bits;
        fill(entry, 1 << rest, (uint32_t)(length + size) | advance << 8 | (uint32_t)value << 16);
    }
}

int ft_codes_make(ft_codes *codes, const uint8_t *key, int32_t bytes, int is_dc)
{
    if (codes->key_bytes == bytes && !memcmp(codes->key, key, (size_t)bytes))
        return 1;
    memset(codes->key, 0, sizeof codes->key);
    memcpy(codes->key, key, (size_t)bytes);
    codes->key_bytes = 0;
    codes->has_several = 0;
    const uint8_t *symbols = codes->key + 16;
    int32_t code = 0, place = 0;
    for (int length = 1; length <= 16; length++, code <<= 1) {
        codes->shift[length] = place - code;
        for (int i = 0; i < codes->key[length - 1]; i++, code++, place++) {
            if (is_dc && symbols[place] > 15)
                return 0;
            if (code + 1 >= 1 << length) /* no code is all ones */
                return 0;
            if (length <= BITS)
                enter(codes->entry + (code << (BITS - length)), length, symbols[place], is_dc);
        }
        codes->largest[length] = codes->key[length - 1] ? code - 1 : -1;
        if (length == BITS)
            memset(codes->entry + code, 0, sizeof codes->entry - (size_t)code * sizeof *codes->entry);
    }
    codes->key_bytes = bytes;
    return 1;
}

void ft_codes_several(ft_codes *codes)
{
    if (codes->has_several)
        return;
    for (uint32_t bits = 0; bits < 1 << BITS; bits++) {
        uint32_t length = 0, advance = 0, e = codes->entry[bits];
        while (FT_ADVANCE(e) && length + FT_LENGTH(e) <= BITS && advance < FT_END_OF_BLOCK) {
            length += FT_LENGTH(e);
            advance += FT_ADVANCE(e);
            e = codes->entry[bits << length & ((1 << BITS) - 1)];
        }
        codes->several[bits] = (uint16_t)(advance << 6 | length);
    }
    codes->has_several = 1;
}
