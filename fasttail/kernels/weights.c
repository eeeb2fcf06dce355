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

static int32_t down(int64_t a, int64_t b) { return (int32_t)(a >= 0 ? a / b : -((-a + b - 1) / b)); }

/* Gives image position x, whose weight is `weight`, to the samples that it is made of. */
static void share(int64_t *shares, int32_t from, int32_t x, int64_t weight, const ft_axis_plan *plan)
{
    int32_t sample = x / plan->factor;
    if (!plan->smooth) {
        shares[sample - from] += 4 * weight;
        return;
    }
    int32_t next = x & 1 ? ft_least(sample + 1, plan->samples - 1) : ft_most(sample - 1, 0);
    shares[sample - from] += 3 * weight;
    shares[next - from] += weight;
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

/* Output position i: its samples' weights, and how many there are, from `first` on. */
static int32_t position(int16_t *weights, int32_t *first, int64_t *shares, const ft_axis_plan *plan,
                        int32_t i)
{
    /* In units of half a position of the output: the centre, and how far the triangle reaches. */
    int64_t out = plan->out, centre = (2LL * i + 1) * plan->box,
            reach = 2LL * ft_most(plan->box, plan->out);
    int32_t low = ft_most(down(centre - reach - out, 2 * out) + 1, 0);
    int32_t high = ft_least(-down(-(centre + reach - out), 2 * out), plan->box);
    /* Of the box's positions those that are in the image; the others are black and add nothing. */
    int32_t low_inside = ft_most(low, -plan->start),
            high_inside = ft_least(high, plan->image - plan->start);
    *first = plan->least - plan->base;
    if (low_inside >= high_inside)
        return 0;
    int32_t margin = plan->smooth;
    int32_t from = ft_most((plan->start + low_inside) / plan->factor - margin, 0);
    int32_t to =
        ft_least((plan->start + high_inside - 1) / plan->factor + margin, plan->samples - 1) + 1;
    memset(shares, 0, (size_t)(to - from) * sizeof *shares);
    int64_t sum = 0, inside = 0;
    for (int32_t k = low; k < high; k++) {
        int64_t distance = (2LL * k + 1) * out - centre,
                weight = reach - (distance < 0 ? -distance : distance);
        sum += weight;
        if (k >= low_inside && k < high_inside) {
            inside += weight;
            share(shares, from, plan->start + k, weight, plan);
        }
    }
    quantize(weights, shares, to - from, 4 * inside, 4 * sum);
    *first = from - plan->base;
    return to - from;
}

int ft_weights_make(ft_weights *made, ft_scratch *scratch, const ft_axis_plan *plan)
{
    int32_t positions = 2 * ft_most(plan->box, plan->out) / plan->out + 2,
            most = positions / plan->factor + 4;
    int32_t padded = ft_ceil_div(plan->out, FT_COLUMNS) * FT_COLUMNS;
    size_t firsts = (size_t)padded * sizeof(int32_t),
           weights = (size_t)padded * (size_t)most * sizeof(int16_t);
    char *memory = ft_grow(scratch, (size_t)most * sizeof(int64_t) + firsts + weights);
    if (!memory)
        return -1;
    int64_t *shares = (int64_t *)memory;
    made->first = (int32_t *)(shares + most);
    made->weights = (int16_t *)((char *)made->first + firsts);
    made->taps = 1;
    memset(made->first, 0, firsts + weights);
    for (int32_t i = 0; i < plan->out; i++) {
        int32_t at = plan->flip ? plan->out - 1 - i : i;
        int32_t count =
            position(made->weights + (size_t)at * (size_t)most, &made->first[at], shares, plan, i);
        made->taps = ft_most(made->taps, count);
    }
    /* A loop that always has one length needs no guessing by the processor: the weights behind are 0.
     */
    for (int32_t at = 0; at < padded; at++)
        memmove(made->weights + (size_t)at * (size_t)made->taps,
                made->weights + (size_t)at * (size_t)most, (size_t)made->taps * sizeof(int16_t));
    return 0;
}
