/* What the files of our own JPEG decoder share. It decodes the common kind: Huffman-coded, sequential,
 * 8 bits, all components in one scan. About anything else, and wherever the data is not as it should
 * be, it says "not for me", and libjpeg-turbo is asked (jpeg_roi.c).
 *
 *     header.c    markers -> ft_jpeg
 *     huffman.c   code lengths -> look-up tables
 *     entropy.c   bits -> coefficients, of one stretch of MCUs or of two in turn
 *     seek.c      where stretches of MCUs begin: making the points, reading them
 *     weights.c   which samples make an output position, and with what share
 *     pixels.c    coefficients -> samples -> output: what is done to many numbers at a time
 *     native.c    one item: which MCUs a box needs, and their way through all of the above
 *     planes.c    samples that are kept decoded
 */
#ifndef FASTTAIL_JPEG_H
#define FASTTAIL_JPEG_H

#include "fasttail.h"

#define FT_COMPONENTS 3
#define FT_BLOCKS_IN_MCU 10
#define FT_BLOCK 64 /* coefficients */

static inline int32_t ft_least(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t ft_most(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t ft_ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

/* header.c ---------------------------------------------------------------------------------- */

typedef enum { FT_GREY, FT_YCC, FT_RGB } ft_colour;

/* A component's samples: what a JPEG's header and a file of planes both tell. */
typedef struct {
    int32_t h, v;               /* blocks in an MCU */
    int32_t factor_x, factor_y; /* image positions to one sample */
    int32_t width, height;      /* samples */
} ft_plane;

typedef struct {
    int32_t height, width, components;
    ft_colour colour;
    int32_t mcu_h, mcu_w;         /* pixels of an MCU */
    int32_t mcus_high, mcus_wide; /* MCUs of the image */
    ft_plane plane[FT_COMPONENTS];
} ft_layout;

typedef struct {
    ft_layout layout;
    struct {
        int32_t id, quantizer, dc, ac; /* which tables it takes */
    } component[FT_COMPONENTS];
    int32_t interval;            /* MCUs between restart markers, 0 for none */
    const uint8_t *quantizer[4]; /* 64 values in zigzag order, or NULL */
    int wide[4];                 /* whether they are of two bytes */
    const uint8_t *codes[2][4];  /* DC, AC: 16 counts and the symbols, or NULL */
    int32_t code_bytes[2][4];
    const uint8_t *scan, *end; /* entropy-coded data, and the end of the file */
} ft_jpeg;

/* Fills in what follows from height, width and the planes' h and v. 0 if there is no such image. */
int ft_layout_complete(ft_layout *layout);

/* 1 if the header is one for us. */
int ft_header(ft_jpeg *jpeg, const uint8_t *src, int64_t size);

/* huffman.c --------------------------------------------------------------------------------- */

/* Of a look-up: 97 % of AC symbols fit with their value, and five times as many into 56 bits. */
#define FT_CODE_BITS 11

/* An entry: bits 0..5 how many bits it takes, 8..15 how far to go among the coefficients, 16..31 the
 * coefficient's value. Where code and value do not fit together into a look-up, bits 8..15 are 0: then
 * bits 0..5 are the code's length, 16..23 the value's, 24..31 how far to go; all 0 if the code does not
 * fit. */
#define FT_LENGTH(e) ((e)&63u)
#define FT_ADVANCE(e) ((e) >> 8 & 255u)
#define FT_VALUE(e) ((int16_t)((e) >> 16))

/* Going forward by this ends a block. Its place is then 128 or more, a full block's 63, and after a
 * code that is none, or one that goes past the end, 64 to 127. */
#define FT_END_OF_BLOCK 128u
#define FT_NO_CODE 64u
#define FT_MISFIT(place) ((place)&64)

typedef struct {
    uint32_t entry[1 << FT_CODE_BITS];
    uint16_t several[1 << FT_CODE_BITS]; /* for walking: bits 0..5 how many bits, 6..15 how far to go */
    int32_t largest[17];                 /* the largest code of a length, -1 if there is none */
    int32_t shift[17];                   /* code + shift = place among the symbols */
    uint8_t key[16 + 256]; /* what it was made from; again the same one is not made again */
    int32_t key_bytes;     /* 0: nothing yet */
    int has_several;
} ft_codes;

/* From 16 counts and their symbols. 0 if libjpeg would refuse the table. */
int ft_codes_make(ft_codes *codes, const uint8_t *key, int32_t bytes, int is_dc);

/* Makes `several`, if it isn't there: as many symbols as fit into a look-up together, 0 if the first
 * does not. Their values are not told. */
void ft_codes_several(ft_codes *codes);

/* entropy.c --------------------------------------------------------------------------------- */

/* Bytes of zeros behind unstuffed data: a block reads at most 64 symbols of 31 bits past the end, and
 * then it shows that it did. */
#define FT_SPARE 512

typedef struct {
    uint64_t bits; /* the next bits, from the top */
    const uint8_t *at;
    uint32_t count; /* its low 6 bits: how many of them are sure; more may be there */
} ft_bits;

/* A block of an MCU: its tables, and where its coefficients go. */
typedef struct {
    const ft_codes *dc, *ac;
    int16_t *block;
    int32_t next; /* from an MCU's block to the next MCU's */
    int32_t component;
} ft_slot;

/* A place in the entropy-coded data, and how to go on from it. */
typedef struct {
    const ft_jpeg *jpeg;
    ft_scratch *scratch; /* the data without stuffing, up to a marker or `limit` */
    const uint8_t *limit;
    const uint8_t *data, *data_end;
    const uint8_t *marker;                 /* where unstuffing stopped */
    const uint8_t *known_src, *known_data; /* a byte's place in the file, and in `data` */
    ft_bits in;
    int32_t dc[FT_COMPONENTS]; /* predictors */
    int64_t mcu, restart_at;   /* the next MCU; the one before which a marker stands, or no such */
    ft_slot slots[FT_BLOCKS_IN_MCU];
    int32_t blocks;
} ft_cursor;

typedef struct {
    ft_codes dc[4], ac[4];
} ft_tables;

/* The image's tables. 0 if one is missing or none that libjpeg takes. */
int ft_tables_make(ft_tables *tables, const ft_jpeg *jpeg);

/* Stands before MCU `mcu`, whose bits begin at bit `bit` of byte `offset` of the scan. Nothing from
 * `limit` on is read. 0 if memory runs out. */
int ft_cursor_open(ft_cursor *cursor, ft_scratch *scratch, const ft_jpeg *jpeg, ft_tables *tables,
                   int64_t offset, int32_t bit, const int32_t dc[FT_COMPONENTS], int64_t mcu,
                   const uint8_t *limit);

/* Where the cursor stands, as a bit of the scan. */
int64_t ft_cursor_place(ft_cursor *cursor);

/* At the end of a restart interval: goes past the marker. 0 if it is not there. */
int ft_cursor_restart(ft_cursor *cursor);

/* Whether all bits up to here were in the data, and fewer than eight of it are left: its end. */
int ft_cursor_at_end(const ft_cursor *cursor);

/* Goes forward over MCUs. 0 if the data is not as it should be. */
int ft_walk(ft_cursor *cursor, int64_t mcus);

/* Decodes MCUs into the slots' blocks, which move on. 0 if the data is not as it should be. */
int ft_blocks(ft_cursor *cursor, int64_t mcus);
int ft_blocks_two(ft_cursor *a, ft_cursor *b, int64_t mcus);

#endif
