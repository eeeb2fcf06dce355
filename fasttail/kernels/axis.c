/* The weights of one axis: which input positions make an output position, and with what share.
 *
 * The filter is a triangle whose support grows with the scale. Its weights are laid out at full size.
 * Where decoding is at 1/shrunk, they are carried over to the smaller grid, so that the result is, as
 * nearly as can be, what the full-size filter would have given (see `halve`).
 */
#include "fasttail.h"

#include <math.h>
#include <string.h>

/* How far, in decoded positions, carrying over spreads a weight: 2 at each halving. */
#define REACH 4

static double support_of(int32_t box, int32_t out)
{
    double scale = (double)box / out;
    return scale < 1 ? 1 : scale;
}

int32_t ft_rows_kept(int32_t box, int32_t out, int32_t shrunk)
{
    double span = 2 * support_of(box, out) + (FT_GROUP - 1) * (double)box / out;
    return (int32_t)ceil(span / shrunk) + 3 + 2 * REACH;
}

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t most(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Weights of n positions -> weights of the n/2 positions that are the means of two each.
 *
 * libjpeg's scaled decoding gives just these means. What is lost is each pair's difference, which is
 * estimated from the neighbouring means by the cubic B-spline wavelet's rule (with two neighbours on
 * either side: 22/128 and 3/128). Without it a shrunk image would come out softer than the same image
 * stored raw, and sharpness would tell how an image is stored. */
static void halve(const double *full, double *half, int32_t n)
{
    n /= 2;
    memset(half, 0, (size_t)n * sizeof(double));
    for (int32_t j = 0; j < n; j++) {
        double difference = full[2 * j] - full[2 * j + 1];
        half[j] += full[2 * j] + full[2 * j + 1];
        half[most(j - 2, 0)] -= 3. / 128 * difference;
        half[most(j - 1, 0)] += 22. / 128 * difference;
        half[least(j + 1, n - 1)] -= 22. / 128 * difference;
        half[least(j + 2, n - 1)] += 3. / 128 * difference;
    }
}

int ft_axis_make(ft_axis *axis, ft_scratch *scratch, int32_t box, int32_t out, const ft_span *there)
{
    double scale = (double)box / out, support = support_of(box, out);
    int32_t shrunk = there->shrunk, reach = shrunk > 1 ? REACH : 0;
    axis->taps = (int32_t)ceil(2 * support / shrunk) + 3 + 2 * reach;
    axis->used = 0;
    size_t ints = (size_t)out * sizeof(int32_t), window = (size_t)axis->taps * (size_t)shrunk;
    char *memory = ft_grow(scratch, 2 * window * sizeof(double) + 2 * ints +
                                        (size_t)out * (size_t)axis->taps * sizeof(float));
    if (!memory)
        return -1;
    double *full = (double *)memory, *spare = full + window;
    axis->first = (int32_t *)(spare + window);
    axis->count = axis->first + out;
    axis->weights = (float *)(axis->count + out);

    for (int32_t i = 0; i < out; i++) {
        float *weights = axis->weights + (size_t)i * (size_t)axis->taps;
        double center = (i + 0.5) * scale, sum = 0;
        /* The box's positions with a weight above 0: their centre is less than `support` away. */
        int32_t low = most((int32_t)floor(center - support - 0.5) + 1, 0);
        int32_t high = least((int32_t)ceil(center + support - 0.5), box);
        for (int32_t k = low; k < high; k++)
            sum += 1 - fabs((k - center + 0.5) / support);
        /* Those of them that are in the image; the others are black and add nothing. */
        low = most(low, there->before);
        high = least(high, there->before + there->inside);
        axis->first[i] = axis->count[i] = 0;
        if (high <= low)
            continue;

        /* From the box's positions to the decoded ones: `shift`, then division by `shrunk`. */
        int32_t shift = there->lead - there->before;
        int32_t from = (low + shift) / shrunk - reach, to = (high - 1 + shift) / shrunk + 1 + reach;
        int32_t n = (to - from) * shrunk;
        memset(full, 0, (size_t)n * sizeof(double));
        for (int32_t k = low; k < high; k++)
            full[k + shift - from * shrunk] = (1 - fabs((k - center + 0.5) / support)) / sum;
        double *made = full, *next = spare;
        for (int32_t level = shrunk; level > 1; level /= 2, n /= 2) {
            halve(made, next, n);
            double *swap = made;
            made = next;
            next = swap;
        }
        /* What falls outside of what was decoded goes to the edge. */
        int32_t first = most(from, 0), last = least(to, there->decoded) - 1;
        axis->first[i] = first;
        axis->count[i] = last - first + 1;
        axis->used = most(axis->used, axis->count[i]);
        memset(weights, 0, (size_t)axis->count[i] * sizeof(float));
        for (int32_t j = 0; j < n; j++)
            weights[most(least(from + j, last), first) - first] += (float)made[j];
    }
    return 0;
}

void ft_axis_even(ft_axis *axis, int32_t out, int32_t length)
{
    axis->used = most(axis->used, 1);
    for (int32_t i = 0; i < out; i++) {
        float *weights = axis->weights + (size_t)i * (size_t)axis->taps;
        int32_t count = axis->count[i], missing = axis->used - count;
        int32_t behind = length - count - axis->first[i]; /* inputs after the last tap */
        int32_t ahead = most(missing - behind, 0);
        memmove(weights + ahead, weights, (size_t)count * sizeof(float));
        memset(weights, 0, (size_t)ahead * sizeof(float));
        memset(weights + ahead + count, 0, (size_t)(missing - ahead) * sizeof(float));
        axis->first[i] -= ahead;
        axis->count[i] = axis->used;
    }
}
