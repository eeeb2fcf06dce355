/* Rows of a region -> an image of another size, by the triangle filter whose support grows with the
 * scale (Pillow's BILINEAR, torchvision's bilinear with antialias).
 *
 * Rows are summed first, while they arrive, then columns: so no more rows are in memory than the
 * filter spans, and a region from a JPEG and the same region from memory take the very same path.
 * Between the passes nothing is rounded. Sums are float, products and sums each rounded, in one fixed
 * order: the same bits on every machine (no fused multiply-add: see build.py).
 */
#include "fasttail.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
/* The inner loops are compiled twice, and the processor decides (FT_WIDE). */
#define FT_V3 __attribute__((target("avx2,fma")))
#define FT_WIDE (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define FT_V3
#define FT_WIDE 0
#endif
#define FT_INLINE static inline __attribute__((always_inline))

#define GROUP 4 /* output rows that are made together, for they share the columns' weights */

typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

/* Weights of one axis: output position i takes `count[i]` inputs from `first[i]` on. */
typedef struct {
    int32_t *first, *count;
    float *weights;
    int32_t taps; /* weights are stored [out, taps] */
    int32_t used; /* the largest count */
} axis;

void *ft_grow(ft_scratch *scratch, size_t bytes)
{
    if (scratch->bytes < bytes) {
        free(scratch->at);
        scratch->at = malloc(bytes);
        scratch->bytes = scratch->at ? bytes : 0;
    }
    return scratch->at;
}

static double support_of(int32_t box, int32_t out)
{
    double scale = (double)box / out;
    return scale < 1 ? 1 : scale;
}

int32_t ft_rows_kept(int32_t box_h, int32_t out_h)
{
    double scale = (double)box_h / out_h;
    return (int32_t)ceil(2 * support_of(box_h, out_h) + (GROUP - 1) * scale) + 3;
}

/* The weights by which `box` positions become `out`, of which only `length` from `before` on are
 * there: the others are black, so they count in the sum of weights and add nothing. Positions are
 * relative to the region. */
static int make_axis(axis *made, ft_scratch *scratch, int32_t box, int32_t out, int32_t before,
                     int32_t length)
{
    double scale = (double)box / out, support = support_of(box, out);
    made->taps = (int32_t)ceil(support) * 2 + 1;
    made->used = 0;
    size_t ints = (size_t)out * sizeof(int32_t);
    char *memory = ft_grow(scratch, 2 * ints + (size_t)out * made->taps * sizeof(float));
    if (!memory)
        return -1;
    made->first = (int32_t *)memory;
    made->count = (int32_t *)(memory + ints);
    made->weights = (float *)(memory + 2 * ints);

    for (int32_t i = 0; i < out; i++) {
        float *weights = made->weights + (size_t)i * made->taps;
        double center = (i + 0.5) * scale, sum = 0;
        int32_t low = (int32_t)(center - support + 0.5), high = (int32_t)(center + support + 0.5);
        if (low < 0 || center - support + 0.5 < 0)
            low = 0;
        if (high > box)
            high = box;
        for (int32_t k = low; k < high; k++) {
            double weight = 1 - fabs((k - center + 0.5) / support);
            sum += weight > 0 ? weight : 0;
        }
        int32_t inside_low = low > before ? low : before;
        int32_t inside_high = high < before + length ? high : before + length;
        /* A tap of weight 0 at the end would only be work (and does happen: at scale 1, always). */
        while (inside_high > inside_low && 1 - fabs((inside_high - 1 - center + 0.5) / support) <= 0)
            inside_high--;
        made->first[i] = inside_low - before;
        made->count[i] = inside_high > inside_low ? inside_high - inside_low : 0;
        for (int32_t k = 0; k < made->count[i]; k++) {
            double weight = 1 - fabs((inside_low + k - center + 0.5) / support);
            weights[k] = (float)((weight > 0 ? weight : 0) / sum);
        }
        if (made->count[i] > made->used)
            made->used = made->count[i];
    }
    return 0;
}

/* Gives every output position the same number of taps, by taps of weight 0: a loop of one length needs
 * no guessing by the processor. `length` is how many inputs there are. */
static void even_out(axis *made, int32_t out, int32_t length)
{
    if (!made->used)
        made->used = 1;
    for (int32_t i = 0; i < out; i++) {
        float *weights = made->weights + (size_t)i * made->taps;
        int32_t missing = made->used - made->count[i];
        int32_t room = length - made->count[i] - made->first[i]; /* behind the last tap */
        int32_t ahead = made->count[i] && missing > room ? missing - room : 0;
        if (!made->count[i])
            made->first[i] = 0;
        memmove(weights + ahead, weights, (size_t)made->count[i] * sizeof(float));
        memset(weights, 0, (size_t)ahead * sizeof(float));
        memset(weights + ahead + made->count[i], 0, (size_t)(missing - ahead) * sizeof(float));
        made->first[i] -= ahead;
        made->count[i] = made->used;
    }
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

/* Four sums -> four pixels of four bytes. Weights are not negative and sum up to 1, but for errors far
 * below 0.5: no clamping is needed. */
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
        uint8_t bytes[4] = {(uint8_t)value[0], (uint8_t)value[1], (uint8_t)value[2], 0};
        memcpy(&pixel[g], bytes, 4);
    }
#endif
}

/* GROUP rows of sums -> GROUP output rows, from left to right in the output. `taps` is a constant
 * wherever this is inlined. */
FT_INLINE void columns_taps(const float *const *sums, uint8_t *const *out, const axis *x,
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

FT_INLINE void columns_body(const float *const *sums, uint8_t *const *out, const axis *x,
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

static void columns_any(const float *const *sums, uint8_t *const *out, const axis *x, int32_t out_w,
                        int flip)
{
    columns_body(sums, out, x, out_w, flip);
}

FT_V3 static void columns_v3(const float *const *sums, uint8_t *const *out, const axis *x,
                             int32_t out_w, int flip)
{
    columns_body(sums, out, x, out_w, flip);
}

/* The box has the output's size: pixels as they are. */
static void copy(ft_rows *rows, const ft_item *item)
{
    size_t stride = 3 * (size_t)item->out_w;
    if (rows->height < item->out_h || rows->width < item->out_w)
        memset(item->out, 0, stride * item->out_h);
    for (int32_t r = 0; r < rows->height; r++) {
        const uint8_t *from = rows->row(rows, r);
        uint8_t *to = item->out + (rows->above + r) * stride;
        if (!item->flip) {
            memcpy(to + 3 * (size_t)rows->left, from, 3 * (size_t)rows->width);
            continue;
        }
        uint8_t *pixel = to + 3 * (size_t)(item->out_w - 1 - rows->left);
        for (int32_t j = 0; j < rows->width; j++, pixel -= 3)
            memcpy(pixel, from + 3 * (size_t)j, 3);
    }
}

int ft_resize(ft_resizer *resizer, ft_rows *rows, const ft_item *item)
{
    int32_t box_h = item->box[2], box_w = item->box[3];
    size_t out_stride = 3 * (size_t)item->out_w;
    if (rows->height <= 0 || rows->width <= 0) {
        memset(item->out, 0, out_stride * item->out_h);
        return 0;
    }
    if (box_h == item->out_h && box_w == item->out_w) {
        copy(rows, item);
        return 0;
    }

    axis y, x;
    const int wide = FT_WIDE;
    int32_t length = 3 * rows->width;
    size_t sum_stride = (size_t)length + 16; /* room to read a whole vector at the last pixel */
    float *sums = ft_grow(&resizer->sums, (GROUP * sum_stride) * sizeof(float));
    if (!sums ||
        make_axis(&y, &resizer->weights_y, box_h, item->out_h, rows->above, rows->height) ||
        make_axis(&x, &resizer->weights_x, box_w, item->out_w, rows->left, rows->width))
        return -1;
    even_out(&x, item->out_w, rows->width);
    /* The vectors' fourth lane reads past the last pixel: what is there must not be a signalling or
     * slow number. */
    for (int g = 0; g < GROUP; g++)
        memset(sums + g * sum_stride + length, 0, 16 * sizeof(float));

    for (int32_t top = 0; top < item->out_h; top += GROUP) {
        const float *sum_of[GROUP];
        uint8_t *out_of[GROUP];
        for (int g = 0; g < GROUP; g++) {
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
