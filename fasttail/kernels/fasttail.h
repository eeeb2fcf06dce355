/* What the files of the kernel share: items, the per-thread state, errors.
 *
 *     pool.c      threads that work through a queue of batches        (the entry points for batches)
 *     jpeg_roi.c  one item, by whoever can; what libjpeg decodes       (the entry points for single files)
 *     native.c    our own JPEG decoder, whose files jpeg.h tells
 *     baseline.c  a progressive JPEG as a baseline one
 *     resize.c    rows of RGB -> output image
 *     axis.c      the filter's weights for them
 *     crc32.c     are the bytes those that were written?
 */
#ifndef FASTTAIL_H
#define FASTTAIL_H

#include <stddef.h>
#include <stdint.h>

#define FT_API __attribute__((visibility("default")))

/* Set by build.py: which sources this library was built from. */
#ifndef FT_DIGEST
#define FT_DIGEST "unknown"
#endif

#define FT_MESSAGE 256

/* The most pixels of an image, and the longest side of an output or a box: far above what training
 * takes, far below what would let one file take all memory. The pixel limit is Pillow's. */
#define FT_MAX_PIXELS 178956970LL
#define FT_MAX_SIDE 65535

/* How an item's bytes are stored: a JPEG, pixels, samples as planes.c keeps them; and a JPEG that libjpeg is to
 * decode, whatever its kind (a second opinion, for tests and measurements). */
enum { FT_JPEG = 0, FT_RAW = 1, FT_PLANES = 2, FT_LIBJPEG = 3 };

/* A box in a stored image, to be made into an output image. kernels/pool.py has the same structure as a
 * NumPy type. */
typedef struct {
    const uint8_t *src;       /* a JPEG file, or pixels [height, width, 3] */
    int64_t size;             /* bytes at src */
    const uint64_t *seek;     /* a JPEG's seek index (seek.h), or NULL */
    uint8_t *out;             /* [out_h, out_w, 3] */
    int32_t out_h, out_w;
    int32_t height, width;    /* of the stored image, as the index has them */
    int32_t box[4];           /* top, left, height, width; may reach past the edges */
    uint32_t crc32;
    int32_t seek_count;       /* words of `seek` */
    uint8_t mode;             /* how it is stored */
    uint8_t check;            /* whether the bytes' checksum is to be compared with `crc32` */
    uint8_t flip;             /* mirror the output left to right */
} ft_item;

/* Memory that grows to what was needed and is used again. */
typedef struct {
    void *at;
    size_t bytes;
} ft_scratch;

/* At least `bytes` of memory, contents undefined, or NULL. */
void *ft_grow(ft_scratch *scratch, size_t bytes);

/* axis.c ------------------------------------------------------------------------------------ */

#define FT_GROUP 4 /* output rows that are made together, for they share the columns' weights */

/* What there is of a box along one axis. */
typedef struct {
    int32_t before;   /* the box's positions that lie before the image */
    int32_t inside;   /* those that lie in it: the region */
    int32_t shrunk;   /* decoding is at 1/shrunk of the size: 1, 2 or 4 */
    int32_t lead;     /* positions between the first decoded one's beginning and the region, < shrunk */
    int32_t decoded;  /* decoded positions */
} ft_span;

/* Output position i takes `count[i]` decoded positions, from `first[i]` on. */
typedef struct {
    int32_t *first, *count;
    float *weights; /* [out, taps] */
    int32_t taps;
    int32_t used;   /* the largest count */
} ft_axis;

/* The weights by which `box` positions become `out`. What lies outside the image counts in the sum of
 * weights and adds nothing: it is black. 0, or -1 if memory runs out. */
int ft_axis_make(ft_axis *axis, ft_scratch *scratch, int32_t box, int32_t out, const ft_span *there);

/* Gives every output position the same number of taps, with weights of 0: a loop that always has one
 * length needs no guessing by the processor. `length` is how many inputs there are. */
void ft_axis_even(ft_axis *axis, int32_t out, int32_t length);

/* How many of the last rows must stay valid for `ft_resize`. */
int32_t ft_rows_kept(int32_t box, int32_t out, int32_t shrunk);

/* resize.c ---------------------------------------------------------------------------------- */

/* Where the rows of a region come from. `row` returns decoded row r, r in 0..y.decoded-1, which may be
 * up to `ft_rows_kept` rows behind the last one that was asked for. */
typedef struct ft_rows {
    const uint8_t *(*row)(struct ft_rows *rows, int32_t r);
    ft_span y, x;
} ft_rows;

typedef struct {
    ft_scratch weights_y, weights_x, sums;
} ft_resizer;

/* The box, of which `rows` is what there is, into the item's output. 0, or -1 if memory runs out. */
int ft_resize(ft_resizer *resizer, ft_rows *rows, const ft_item *item);

void ft_resizer_free(ft_resizer *resizer);

/* crc32.c ----------------------------------------------------------------------------------- */

uint32_t ft_crc32(const uint8_t *bytes, int64_t size);

/* jpeg_roi.c -------------------------------------------------------------------------------- */

typedef struct ft_decoder ft_decoder;

/* One thread's state, or NULL if memory runs out. */
ft_decoder *ft_decoder_new(void);
void ft_decoder_free(ft_decoder *decoder);

/* Makes one item. 0, or -1 with the reason in `message`; then the output is undefined. */
int ft_decode(ft_decoder *decoder, const ft_item *item, char message[FT_MESSAGE]);

/* seek.c ------------------------------------------------------------------------------------ */

/* 1 if libjpeg would decode this JPEG without a warning, which is then `height` x `width`; 0 if that
 * is not known. */
int ft_jpeg_is_good(const uint8_t *src, int64_t size, int32_t *height, int32_t *width);

#endif
