/* Which samples of a component make an output position, and with what share.
 *
 * The filter is a triangle whose support grows with the scale, over image positions. Where a component
 * has fewer samples than the image has positions, libjpeg makes it as large first; since this is a
 * weighted sum as well, its weights go into the filter's, and nothing is ever made larger:
 *   - two positions to a sample: 3/4 of the nearer and 1/4 of the next ("fancy upsampling");
 *   - otherwise, and where there are but two samples in a row: the sample that lies there.
 * All weights are ratios of whole numbers up to the last division, so they are the same on every
 * machine.
 */
#include "canvas.h"

#include <string.h>

/* Weights of `count` image positions, from x on -> weights of samples, from `*first` on, four times as
 * large. How many there are. */
static int32_t fold(int64_t *samples, int32_t *first, const int64_t *positions, int32_t x,
                    int32_t count, const ft_axis_plan *plan)
{
    int32_t from = ft_most(x / plan->factor - plan->smooth, 0);
    int32_t to = ft_least((x + count - 1) / plan->factor + 1 + plan->smooth, plan->samples);
    memset(samples, 0, (size_t)(to - from) * sizeof *samples);
    *first = from;
    for (int32_t k = 0; k < count; k++, x++) {
        int32_t sample = plan->factor == 2 ? x >> 1 : x / plan->factor;
        if (!plan->smooth) {
            samples[sample - from] += 4 * positions[k];
            continue;
        }
        int32_t next = x & 1 ? ft_least(sample + 1, plan->samples - 1) : ft_most(sample - 1, 0);
        samples[sample - from] += 3 * positions[k];
        samples[next - from] += positions[k];
    }
    return to - from;
}

/* Whole numbers -> parts of 32768, which together make up `inside` of `sum`. */
static void quantize(int16_t *weights, const int64_t *shares, int32_t count, int64_t inside,
                     int64_t sum)
{
    double scale = 32768. / (double)sum;
    int32_t left = (int32_t)((double)inside * scale + 0.5), largest = 0;
    for (int32_t k = 0; k < count; k++) {
        int32_t weight = ft_least((int32_t)((double)shares[k] * scale + 0.5), 32767);
        weights[k] = (int16_t)weight;
        left -= weight;
        if (weight > weights[largest])
            largest = k;
    }
    weights[largest] = (int16_t)ft_least(weights[largest] + left, 32767);
}

/* Output position i: its samples' weights, and how many there are, from `first` on. `*low` is a
 * position of the box that is not behind its first one, and becomes that. `shares` has room for two of
 * all. */
static int32_t position(int16_t *weights, int32_t *first, int64_t *shares, int32_t *low,
                        const ft_axis_plan *plan, int32_t i)
{
    /* In units of half a position of the output: the centre, and how far the triangle reaches. */
    int64_t out = plan->out, centre = (2LL * i + 1) * plan->box,
            reach = 2LL * ft_most(plan->box, plan->out), sum = 0, inside = 0;
    while ((2LL * *low + 1) * out <= centre - reach)
        ++*low;
    int64_t distance = (2LL * *low + 1) * out - centre;
    int32_t x = plan->start + *low, end = plan->start + plan->box, count = 0;
    for (; x < end && distance < reach; x++, distance += 2 * out) {
        int64_t weight = reach - (distance < 0 ? -distance : distance);
        sum += weight;
        /* The box's positions that are not in the image are black and add nothing. */
        if (x >= 0 && x < plan->image) {
            inside += weight;
            shares[count++] = weight;
        }
    }
    *first = plan->least - plan->base;
    if (!count)
        return 0;
    x = ft_least(x, plan->image) - count;
    if (plan->factor == 1) {
        *first = x - plan->base;
        quantize(weights, shares, count, inside, sum);
        return count;
    }
    int64_t *samples = shares + count;
    count = fold(samples, first, shares, x, count, plan);
    *first -= plan->base;
    quantize(weights, samples, count, 4 * inside, 4 * sum);
    return count;
}

int ft_weights_make(ft_weights *made, ft_scratch *scratch, const ft_axis_plan *plan)
{
    int32_t positions = 2 * ft_most(plan->box, plan->out) / plan->out + 2,
            most = positions / plan->factor + 4;
    int32_t padded = ft_ceil_div(plan->out, FT_COLUMNS) * FT_COLUMNS;
    size_t firsts = (size_t)padded * sizeof(int32_t),
           weights = (size_t)padded * (size_t)most * sizeof(int16_t);
    size_t shared = (size_t)(positions + most);
    char *memory = ft_grow(scratch, shared * sizeof(int64_t) + firsts + weights);
    if (!memory)
        return -1;
    int64_t *shares = (int64_t *)memory;
    made->first = (int32_t *)(shares + shared);
    made->weights = (int16_t *)((char *)made->first + firsts);
    made->taps = 1;
    memset(made->first, 0, firsts + weights);
    for (int32_t i = 0, low = 0; i < plan->out; i++) {
        int32_t at = plan->flip ? plan->out - 1 - i : i;
        int32_t count = position(made->weights + (size_t)at * (size_t)most, &made->first[at], shares,
                                 &low, plan, i);
        made->taps = ft_most(made->taps, count);
    }
    /* A loop that always has one length needs no guessing by the processor: the weights behind are 0.
     */
    for (int32_t at = 0; at < padded; at++)
        memmove(made->weights + (size_t)at * (size_t)made->taps,
                made->weights + (size_t)at * (size_t)most, (size_t)made->taps * sizeof(int16_t));
    return 0;
}
