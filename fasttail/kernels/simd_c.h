/* Vectors of plain C: one lane, for any processor; what the others must equal. See simd.h. */
#define LANES 1
typedef struct {
    int16_t at[8];
} V;
typedef struct {
    int32_t at[4];
} W;
#define EACH(expression)                 \
    V r;                                 \
    for (int i = 0; i < 8; i++)          \
        r.at[i] = (int16_t)(expression); \
    return r
#define EACH_W(expression)      \
    W r;                        \
    for (int i = 0; i < 4; i++) \
        r.at[i] = (expression); \
    return r
OP int32_t fit(int32_t x) { return x < -32768 ? -32768 : x > 32767 ? 32767 : x; }
OP V v_load(const int16_t *p) { EACH(p[i]); }
OP V v_load_bytes(const uint8_t *p, const uint8_t *q)
{
    (void)q;
    EACH(p[i]);
}
OP V v_twice(const int16_t *p) { EACH(p[i / 2]); }
OP void v_store(int16_t *p, V a) { memcpy(p, a.at, sizeof a.at); }
OP V v_all(int16_t x) { EACH(x); }
OP V v_every_lane(const int16_t *p) { return v_load(p); }
OP V v_add(V a, V b) { EACH(a.at[i] + b.at[i]); }
OP V v_sub(V a, V b) { EACH(a.at[i] - b.at[i]); }
OP V v_adds(V a, V b) { EACH(fit(a.at[i] + b.at[i])); }
OP V v_subs(V a, V b) { EACH(fit(a.at[i] - b.at[i])); }
OP V v_mul(V a, V b) { EACH(a.at[i] * b.at[i]); }
OP V v_mulr(V a, V b) { EACH((a.at[i] * b.at[i] + 16384) >> 15); }
OP V v_min(V a, V b) { EACH(a.at[i] < b.at[i] ? a.at[i] : b.at[i]); }
OP V v_max(V a, V b) { EACH(a.at[i] > b.at[i] ? a.at[i] : b.at[i]); }
OP V v_greater(V a, V b) { EACH(-(a.at[i] > b.at[i])); }
OP V v_and(V a, V b) { EACH(a.at[i] & b.at[i]); }
OP V v_or(V a, V b) { EACH(a.at[i] | b.at[i]); }
OP V v_shl7(V a) { EACH(a.at[i] * 128); }
OP int v_any(V a)
{
    int any = 0;
    for (int i = 0; i < 8; i++)
        any |= a.at[i];
    return any != 0;
}
OP V v_zip_lo16(V a, V b) { EACH(i & 1 ? b.at[i / 2] : a.at[i / 2]); }
OP V v_zip_hi16(V a, V b) { EACH(i & 1 ? b.at[4 + i / 2] : a.at[4 + i / 2]); }
OP V v_zip_lo32(V a, V b) { EACH(i & 2 ? b.at[i / 4 * 2 + i % 2] : a.at[i / 4 * 2 + i % 2]); }
OP V v_zip_hi32(V a, V b) { EACH(i & 2 ? b.at[4 + i / 4 * 2 + i % 2] : a.at[4 + i / 4 * 2 + i % 2]); }
OP V v_zip_lo64(V a, V b) { EACH(i & 4 ? b.at[i - 4] : a.at[i]); }
OP V v_zip_hi64(V a, V b) { EACH(i & 4 ? b.at[i] : a.at[i + 4]); }
OP W w_mul_lo(V a, V b, int16_t k, int16_t l) { EACH_W(a.at[i] * k + b.at[i] * l); }
OP W w_mul_hi(V a, V b, int16_t k, int16_t l) { EACH_W(a.at[4 + i] * k + b.at[4 + i] * l); }
OP W w_shl13_lo(V a) { EACH_W(a.at[i] * 8192); }
OP W w_shl13_hi(V a) { EACH_W(a.at[4 + i] * 8192); }
OP W w_all(int32_t x) { EACH_W(x); }
OP W w_add(W a, W b) { EACH_W((int32_t)((uint32_t)a.at[i] + (uint32_t)b.at[i])); }
OP W w_sub(W a, W b) { EACH_W((int32_t)((uint32_t)a.at[i] - (uint32_t)b.at[i])); }
OP V w_pack_shr(W lo, W hi, int bits) { EACH(fit((i < 4 ? lo.at[i & 3] : hi.at[i & 3]) >> bits)); }
#define W_PACK_SHR w_pack_shr

OP uint8_t byte_of(int16_t x)
{
    int32_t rounded = fit(x + 64) >> 7;
    return (uint8_t)((rounded < -128 ? -128 : rounded > 127 ? 127 : rounded) + 128);
}
OP void v_store_rgb(uint8_t *out, V red, V green, V blue)
{
    for (int i = 0; i < 8; i++, out += 3) {
        out[0] = byte_of(red.at[i]);
        out[1] = byte_of(green.at[i]);
        out[2] = byte_of(blue.at[i]);
    }
}
