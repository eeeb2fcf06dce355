/* Tiles -> rows -> output. Included once for each kind of processor, after its vectors and `turn`. */

/* Bytes -> a tile. */
KIND void samples(int16_t *tile, const uint8_t *const rows[FT_TILE], int32_t columns, int32_t centre)
{
    const V less = v_all((int16_t)(centre * FT_LEVEL));
    for (int32_t x = 0; x < columns; x += 8)
        for (int half = 0; half < 2; half += LANES) {
            V v[8];
            for (int i = 0; i < 8; i++)
                v[i] = v_load_bytes(rows[8 * half + i] + x, rows[(8 * (half + LANES - 1) + i)] + x);
            turn(v);
            for (int i = 0; i < 8; i++)
                v_store(tile + (size_t)(x + i) * FT_TILE + 8 * half, v_sub(v_shl7(v[i]), less));
        }
}

/* Eight output columns at a time: each is a sum of tile columns, and turned they are pieces of rows. */
OP void across_short(int16_t *out, size_t stride, const int16_t *tile, const int32_t *first,
                     const int16_t *weights, const int32_t taps, int32_t columns)
{
    for (int32_t x = 0; x < columns; x += 8)
        for (int half = 0; half < 2; half += LANES) {
            V v[8];
            for (int i = 0; i < 8; i++) {
                const int16_t *from = tile + (size_t)first[x + i] * FT_TILE + 8 * half,
                              *w = weights + (size_t)(x + i) * taps;
                v[i] = v_mulr(v_load(from), v_all(w[0]));
                for (int32_t k = 1; k < taps; k++)
                    v[i] = v_add(v[i], v_mulr(v_load(from + k * FT_TILE), v_all(w[k])));
            }
            turn(v);
            for (int i = 0; i < 8; i++) {
                int16_t *to = out + (size_t)(8 * half + i) * stride + x;
#if LANES == 1
                v_store(to, v[i]);
#else
                v_store_lane0(to, v[i]);
                v_store_lane1(to + 8 * stride, v[i]);
#endif
            }
        }
}

OP void across_long(int16_t *out, size_t stride, const int16_t *tile, const int32_t *first,
                    const int16_t *weights, int32_t taps, int32_t columns)
{
    for (int32_t x = 0; x < columns; x++) {
        const int16_t *from = tile + (size_t)first[x] * FT_TILE, *w = weights + (size_t)x * taps;
        int32_t sums[FT_TILE] = {0};
        for (int32_t k = 0; k < taps; k++, from += FT_TILE)
            for (int r = 0; r < FT_TILE; r++)
                sums[r] += from[r] * w[k];
        for (int r = 0; r < FT_TILE; r++)
            out[(size_t)r * stride + x] = (int16_t)((sums[r] + 16384) >> 15);
    }
}

/* Loops over a constant number of taps are unrolled, and the processor has nothing to guess. */
KIND void across(int16_t *out, size_t stride, const int16_t *tile, const int32_t *first,
                 const int16_t *weights, int32_t taps, int32_t columns)
{
    switch (taps) {
    case 1: across_short(out, stride, tile, first, weights, 1, columns); break;
    case 2: across_short(out, stride, tile, first, weights, 2, columns); break;
    case 3: across_short(out, stride, tile, first, weights, 3, columns); break;
    case 4: across_short(out, stride, tile, first, weights, 4, columns); break;
    case 5: across_short(out, stride, tile, first, weights, 5, columns); break;
    case 6: across_short(out, stride, tile, first, weights, 6, columns); break;
    default:
        if (taps <= FT_SHORT)
            across_short(out, stride, tile, first, weights, taps, columns);
        else
            across_long(out, stride, tile, first, weights, taps, columns);
    }
}

OP void down_short(int16_t *out, const int16_t *const *rows, const int16_t *weights, const int32_t taps,
                   int32_t columns)
{
    for (int32_t x = 0; x < columns; x += 8 * LANES) {
        V sum = v_mulr(v_load(rows[0] + x), v_all(weights[0]));
        for (int32_t k = 1; k < taps; k++)
            sum = v_add(sum, v_mulr(v_load(rows[k] + x), v_all(weights[k])));
        v_store(out + x, sum);
    }
}

OP void down_long(int16_t *out, const int16_t *const *rows, const int16_t *weights, int32_t taps,
                  int32_t columns)
{
    for (int32_t x = 0; x < columns; x += FT_COLUMNS) {
        int32_t sums[FT_COLUMNS] = {0};
        for (int32_t k = 0; k < taps; k++)
            for (int i = 0; i < FT_COLUMNS; i++)
                sums[i] += rows[k][x + i] * weights[k];
        for (int i = 0; i < FT_COLUMNS; i++)
            out[x + i] = (int16_t)((sums[i] + 16384) >> 15);
    }
}

KIND void down(int16_t *out, const int16_t *const *rows, const int16_t *weights, int32_t taps,
               int32_t columns)
{
    switch (taps) {
    case 1: down_short(out, rows, weights, 1, columns); break;
    case 2: down_short(out, rows, weights, 2, columns); break;
    case 3: down_short(out, rows, weights, 3, columns); break;
    case 4: down_short(out, rows, weights, 4, columns); break;
    case 5: down_short(out, rows, weights, 5, columns); break;
    case 6: down_short(out, rows, weights, 6, columns); break;
    default:
        if (taps <= FT_SHORT)
            down_short(out, rows, weights, taps, columns);
        else
            down_long(out, rows, weights, taps, columns);
    }
}

typedef struct {
    V red, green, blue;
} rgb;

/* Brightness 128 levels below itself, and colours likewise: what leaves -128..127 is outside of RGB.
 * Sums that do not fit into 16 bits stay at their end. */
OP rgb colours_of(V y, V cb, V cr)
{
    V green = v_adds(v_mulr(cb, v_all(FT_CB_GREEN)), v_mulr(cr, v_all(FT_CR_GREEN)));
    return (rgb){v_adds(y, v_adds(cr, v_mulr(cr, v_all(FT_CR_RED)))), v_subs(y, green),
                 v_adds(y, v_adds(cb, v_mulr(cb, v_all(FT_CB_BLUE))))};
}

KIND void colour(uint8_t *out, const int16_t *const rows[FT_COMPONENTS], ft_colour colours,
                 int32_t columns)
{
    const V centre = v_all(128 * FT_LEVEL);
    for (int32_t x = 0; x < columns; x += 8 * LANES) {
        V y = v_sub(v_load(rows[0] + x), centre);
        rgb made = {y, y, y};
        if (colours == FT_YCC) {
            made = colours_of(y, v_load(rows[1] + x), v_load(rows[2] + x));
        } else if (colours == FT_RGB) {
            made.green = v_sub(v_load(rows[1] + x), centre);
            made.blue = v_sub(v_load(rows[2] + x), centre);
        }
        v_store_rgb(out + 3 * (size_t)x, made.red, made.green, made.blue);
    }
}

OP int outside_shared(const int16_t *y, const int16_t *cb, const int16_t *cr, int32_t columns,
                      int32_t share_x, const int twice)
{
    const V centre = v_all(128 * FT_LEVEL), high = v_all(127 * FT_LEVEL + FT_GAMUT),
            low = v_all(-128 * FT_LEVEL - FT_GAMUT);
    V most = v_all(0), least = v_all(0);
    for (int32_t x = 0; x < columns; x++) {
        int32_t shared = x / share_x * FT_TILE;
        for (int32_t r = 0; r < FT_TILE; r += 8 * LANES) {
            V b = twice ? v_twice(cb + shared + r / 2) : v_load(cb + shared + r);
            V d = twice ? v_twice(cr + shared + r / 2) : v_load(cr + shared + r);
            rgb c = colours_of(v_sub(v_load(y + x * FT_TILE + r), centre), b, d);
            most = v_max(most, v_max(v_max(c.red, c.green), c.blue));
            least = v_min(least, v_min(v_min(c.red, c.green), c.blue));
        }
    }
    return v_any(v_or(v_greater(most, high), v_greater(low, least)));
}

KIND int outside(const int16_t *y, const int16_t *cb, const int16_t *cr, int32_t columns,
                 int32_t share_x, int32_t share_y)
{
    if (share_y == 2)
        return outside_shared(y, cb, cr, columns, share_x, 1);
    return share_x == 1 ? outside_shared(y, cb, cr, columns, 1, 0)
                        : outside_shared(y, cb, cr, columns, share_x, 0);
}

KIND void spread(int16_t *to, const int16_t *near, const int16_t *next, int32_t half, int32_t share_y,
                 int smooth)
{
    const V most = v_all(24576), rest = v_all(8192);
    int16_t padded[FT_TILE + 2 + 8], *row = padded + 1;
    for (int r = 0; r < FT_TILE; r += 8 * LANES)
        v_store(row + r, v_add(v_mulr(v_load(near + r), most), v_mulr(v_load(next + r), rest)));
    row[-1] = row[0];
    memset(row + FT_TILE, 0, 9 * sizeof *row);
    row[FT_TILE] = row[FT_TILE - 1];
    for (int r = 0; r < FT_TILE; r += 8 * LANES) {
        if (share_y == 1) {
            v_store(to + r, v_load(row + r));
            continue;
        }
        const int16_t *own = row + half + r / 2;
        V here = v_twice(own), before = v_and(v_twice(own - 1), v_evens()),
          after = v_and(v_twice(own + 1), v_odds());
        V beside = smooth ? v_or(before, after) : here;
        v_store(to + r, v_add(v_mulr(here, most), v_mulr(beside, rest)));
    }
}

/* What must be added to a colour so that it is in RGB, if it is further away than FT_GAMUT. */
OP V way_back(V c)
{
    const V high = v_all(127 * FT_LEVEL), low = v_all(-128 * FT_LEVEL);
    V far = v_or(v_greater(c, v_all(127 * FT_LEVEL + FT_GAMUT)),
                 v_greater(v_all(-128 * FT_LEVEL - FT_GAMUT), c));
    return v_and(v_subs(v_max(v_min(c, high), low), c), far);
}

KIND void bring_back(int16_t *y, const int16_t *cb, const int16_t *cr, int16_t *to_cb, int16_t *to_cr,
                     int32_t columns)
{
    const V centre = v_all(128 * FT_LEVEL);
    for (int32_t i = 0; i < columns * FT_TILE; i += 8 * LANES) {
        V brightness = v_load(y + i);
        rgb c = colours_of(v_sub(brightness, centre), v_load(cb + i), v_load(cr + i));
        V red = way_back(c.red), green = way_back(c.green), blue = way_back(c.blue);
        V change = v_add(v_add(v_mulr(red, v_all(FT_RED_Y)), v_mulr(green, v_all(FT_GREEN_Y))),
                         v_mulr(blue, v_all(FT_BLUE_Y)));
        v_store(y + i, v_max(v_adds(brightness, change), v_all(0)));
        v_store(to_cb + i, v_adds(v_load(to_cb + i), v_mulr(v_subs(blue, change), v_all(FT_BLUE_CB))));
        v_store(to_cr + i, v_adds(v_load(to_cr + i), v_mulr(v_subs(red, change), v_all(FT_RED_CR))));
    }
}
