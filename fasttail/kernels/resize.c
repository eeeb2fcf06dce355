/* Rows of a region -> an image of another size, by the triangle filter whose support grows with the
 * scale (Pillow's BILINEAR, torchvision's bilinear with antialias).
 *
 * Rows are summed first, while they arrive, then columns: so no more rows are in memory than the
 * filter spans, and a region from a JPEG and the same region from memory take the very same path.
 * Between the passes nothing is rounded. Every output has its own order of summing: the result does
 * not depend on threads or batches.
 */
#include "cpu.h"
#include "fasttail.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
/* The inner loops are compiled twice, and the processor decides (FT_WIDE). */
#define FT_V3 __attribute__((target("avx2,fma")))
#define FT_WIDE (ft_cpu.avx2 && ft_cpu.fma)
#else
#define FT_V3
#define FT_WIDE 0
#endif
#define FT_INLINE static inline __attribute__((always_inline))

typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

void *ft_grow(ft_scratch *scratch, size_t bytes)
{
    if (scratch->bytes < bytes) {
        free(scratch->at);
        scratch->at = malloc(bytes);
        scratch->bytes = scratch->at ? bytes : 0;
    }
    return scratch->at;
}

/* sum[j] = (add ? sum[j] : 0) + w[0] rows[0][j] + ... : up to four rows at once, since each pass over
 * `sum` costs a read and a write. */
FT_INLINE void add_rows_body(float *restrict sum, const uint8_t *const *rows, const float *w,
                             int32_t count, int32_t length, int add)
{
    const uint8_t *restrict a = rows[0], *restrict b = rows[count > 1 ? 1 : 0];
    const uint8_t *restrict c = rows[count > 2 ? 2 : 0], *restrict d = rows[count > 3 ? 3 : 0];
    float wa = w[0], wb = count > 1 ? w[1] : 0, wc = count > 2 ? w[2] : 0, wd = count > 3 ? w[3] : 0;

    if (add) {
        for (int32_t j = 0; j < length; j++)
            sum[j] = sum[j] + wa * a[j] + wb * b[j] + wc * c[j] + wd * d[j];
    } else if (count == 1) {
        for (int32_t j = 0; j < length; j++)
            sum[j] = wa * a[j];
    } else if (count == 2) {
        for (int32_t j = 0; j < length; j++)
            sum[j] = wa * a[j] + wb * b[j];
    } else if (count == 3) {
        for (int32_t j = 0; j < length; j++)
            sum[j] = wa * a[j] + wb * b[j] + wc * c[j];
    } else {
        for (int32_t j = 0; j < length; j++)
            sum[j] = wa * a[j] + wb * b[j] + wc * c[j] + wd * d[j];
    }
}

static void add_rows_any(float *sum, const uint8_t *const *rows, const float *w, int32_t count,
                         int32_t length, int add)
{
    add_rows_body(sum, rows, w, count, length, add);
}

FT_V3 static void add_rows_v3(float *sum, const uint8_t *const *rows, const float *w, int32_t count,
                              int32_t length, int add)
{
    add_rows_body(sum, rows, w, count, length, add);
}

FT_INLINE float4 load4(const float *at)
{
    float4 value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Four sums -> four pixels of four bytes, rounded, in 0..255. */
FT_INLINE void round4(uint32_t pixel[4], float4 r0, float4 r1, float4 r2, float4 r3)
{
#if defined(__x86_64__)
    const __m128 half = _mm_set1_ps(0.5f);
    __m128i low = _mm_packs_epi32(_mm_cvttps_epi32(_mm_add_ps((__m128)r0, half)),
                                  _mm_cvttps_epi32(_mm_add_ps((__m128)r1, half)));
    __m128i high = _mm_packs_epi32(_mm_cvttps_epi32(_mm_add_ps((__m128)r2, half)),
                                   _mm_cvttps_epi32(_mm_add_ps((__m128)r3, half)));
    _mm_storeu_si128((__m128i *)pixel, _mm_packus_epi16(low, high));
#else
    float4 sums[4] = {r0, r1, r2, r3};
    for (int g = 0; g < 4; g++) {
        int4 value = __builtin_convertvector(sums[g] + 0.5f, int4);
        uint8_t bytes[4] = {0};
        for (int c = 0; c < 3; c++)
            bytes[c] = (uint8_t)(value[c] < 0 ? 0 : value[c] > 255 ? 255 : value[c]);
        memcpy(&pixel[g], bytes, 4);
    }
#endif
}

/* FT_GROUP rows of sums -> FT_GROUP output rows, from left to right in the output. `taps` is a constant
 * wherever this is inlined. */
FT_INLINE void columns_taps(const float *const *sums, uint8_t *const *out, const ft_axis *x,
                            int32_t out_w, int flip, const int32_t taps)
{
    const float *const sum0 = sums[0], *const sum1 = sums[1];
    const float *const sum2 = sums[2], *const sum3 = sums[3];
    uint8_t *to0 = out[0], *to1 = out[1], *to2 = out[2], *to3 = out[3];
    const int32_t *const firsts = x->first, stride = x->taps;
    const float *const weights = x->weights;

    for (int32_t at = 0; at < out_w; at++, to0 += 3, to1 += 3, to2 += 3, to3 += 3) {
        int32_t i = flip ? out_w - 1 - at : at;
        const float *w = weights + (size_t)i * stride;
        const size_t first = 3 * (size_t)firsts[i];
        float4 r0 = w[0] * load4(sum0 + first), r1 = w[0] * load4(sum1 + first);
        float4 r2 = w[0] * load4(sum2 + first), r3 = w[0] * load4(sum3 + first);
        for (int32_t k = 1; k < taps; k++) {
            r0 += w[k] * load4(sum0 + first + 3 * k);
            r1 += w[k] * load4(sum1 + first + 3 * k);
            r2 += w[k] * load4(sum2 + first + 3 * k);
            r3 += w[k] * load4(sum3 + first + 3 * k);
        }
        uint32_t pixel[4];
        round4(pixel, r0, r1, r2, r3);
        if (at < out_w - 1) {
            /* The fourth byte is the next pixel's, which is written next. */
            memcpy(to0, &pixel[0], 4);
            memcpy(to1, &pixel[1], 4);
            memcpy(to2, &pixel[2], 4);
            memcpy(to3, &pixel[3], 4);
        } else {
            memcpy(to0, &pixel[0], 3);
            memcpy(to1, &pixel[1], 3);
            memcpy(to2, &pixel[2], 3);
            memcpy(to3, &pixel[3], 3);
        }
    }
}

FT_INLINE void columns_body(const float *const *sums, uint8_t *const *out, const ft_axis *x,
                            int32_t out_w, int flip)
{
    switch (x->used) {
    case 1: columns_taps(sums, out, x, out_w, flip, 1); break;
    case 2: columns_taps(sums, out, x, out_w, flip, 2); break;
    case 3: columns_taps(sums, out, x, out_w, flip, 3); break;
    case 4: columns_taps(sums, out, x, out_w, flip, 4); break;
    case 5: columns_taps(sums, out, x, out_w, flip, 5); break;
    case 6: columns_taps(sums, out, x, out_w, flip, 6); break;
    default: columns_taps(sums, out, x, out_w, flip, x->used); break;
    }
}

static void columns_any(const float *const *sums, uint8_t *const *out, const ft_axis *x, int32_t out_w,
                        int flip)
{
    columns_body(sums, out, x, out_w, flip);
}

FT_V3 static void columns_v3(const float *const *sums, uint8_t *const *out, const ft_axis *x,
                             int32_t out_w, int flip)
{
    columns_body(sums, out, x, out_w, flip);
}

/* The box has the output's size: pixels as they are. */
static void copy(ft_rows *rows, const ft_item *item)
{
    const ft_span *y = &rows->y, *x = &rows->x;
    size_t stride = 3 * (size_t)item->out_w;
    if (y->inside < item->out_h || x->inside < item->out_w)
        memset(item->out, 0, stride * (size_t)item->out_h);
    for (int32_t r = 0; r < y->inside; r++) {
        const uint8_t *from = rows->row(rows, r);
        uint8_t *to = item->out + (size_t)(y->before + r) * stride;
        if (!item->flip) {
            memcpy(to + 3 * (size_t)x->before, from, 3 * (size_t)x->inside);
            continue;
        }
        uint8_t *pixel = to + 3 * (size_t)(item->out_w - 1 - x->before);
        for (int32_t j = 0; j < x->inside; j++, pixel -= 3)
            memcpy(pixel, from + 3 * (size_t)j, 3);
    }
}

int ft_resize(ft_resizer *resizer, ft_rows *rows, const ft_item *item)
{
    int32_t box_h = item->box[2], box_w = item->box[3];
    size_t out_stride = 3 * (size_t)item->out_w;
    if (rows->y.inside <= 0 || rows->x.inside <= 0) {
        memset(item->out, 0, out_stride * (size_t)item->out_h);
        return 0;
    }
    if (rows->y.shrunk == 1 && box_h == item->out_h && box_w == item->out_w) {
        copy(rows, item);
        return 0;
    }

    ft_axis y, x;
    const int wide = FT_WIDE;
    int32_t length = 3 * rows->x.decoded;
    size_t sum_stride = (size_t)length + 16; /* room to read a whole vector at the last pixel */
    float *sums = ft_grow(&resizer->sums, (FT_GROUP * sum_stride) * sizeof(float));
    if (!sums || ft_axis_make(&y, &resizer->weights_y, box_h, item->out_h, &rows->y) ||
        ft_axis_make(&x, &resizer->weights_x, box_w, item->out_w, &rows->x))
        return -1;
    ft_axis_even(&x, item->out_w, rows->x.decoded);
    /* The vectors' fourth lane reads past the last pixel: what is there must be some number. */
    for (int g = 0; g < FT_GROUP; g++)
        memset(sums + g * sum_stride + length, 0, 16 * sizeof(float));

    for (int32_t top = 0; top < item->out_h; top += FT_GROUP) {
        const float *sum_of[FT_GROUP];
        uint8_t *out_of[FT_GROUP];
        for (int g = 0; g < FT_GROUP; g++) {
            /* The last group may be short: it makes its last row again. */
            int32_t i = top + g < item->out_h ? top + g : item->out_h - 1;
            float *sum = sums + g * sum_stride;
            sum_of[g] = sum;
            out_of[g] = item->out + i * out_stride;
            if (i != top + g) {
                sum_of[g] = sum_of[g - 1];
                continue;
            }
            if (!y.count[i])
                memset(sum, 0, (size_t)length * sizeof(float));
            for (int32_t k = 0; k < y.count[i]; k += 4) {
                const uint8_t *taken[4];
                int32_t some = y.count[i] - k < 4 ? y.count[i] - k : 4;
                for (int32_t t = 0; t < some; t++)
                    taken[t] = rows->row(rows, y.first[i] + k + t);
                (wide ? add_rows_v3 : add_rows_any)(sum, taken, y.weights + (size_t)i * y.taps + k, some, length, k > 0);
            }
        }
        (wide ? columns_v3 : columns_any)(sum_of, out_of, &x, item->out_w, item->flip);
    }
    return 0;
}

void ft_resizer_free(ft_resizer *resizer)
{
    free(resizer->weights_y.at);
    free(resizer->weights_x.at);
    free(resizer->sums.at);
    memset(resizer, 0, sizeof *resizer);
}
