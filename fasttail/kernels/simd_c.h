/* Vectors of no processor in particular: one lane, in the compiler's own vectors (GCC and Clang). */
#define LANES 1
typedef int16_t V __attribute__((vector_size(16)));
typedef uint16_t U __attribute__((vector_size(16))); /* whose sums come round */
typedef int32_t W __attribute__((vector_size(16)));
typedef uint32_t UW __attribute__((vector_size(16)));
typedef int64_t V64 __attribute__((vector_size(16)));
#ifdef __clang__
#define SHUFFLE(a, b, type, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, type, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif
OP V v_load(const int16_t *p)
{
    V a;
    memcpy(&a, p, sizeof a);
    return a;
}
OP void v_store(int16_t *p, V a) { memcpy(p, &a, sizeof a); }
OP V v_load_bytes(const uint8_t *p, const uint8_t *q)
{
    (void)q;
    return (V){p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]};
}
OP V v_all(int16_t x) { return (V){x, x, x, x, x, x, x, x}; }
OP V v_evens(void) { return (V){-1, 0, -1, 0, -1, 0, -1, 0}; }
OP V v_odds(void) { return (V){0, -1, 0, -1, 0, -1, 0, -1}; }
OP V v_every_lane(const int16_t *p) { return v_load(p); }
OP V v_and(V a, V b) { return a & b; }
OP V v_or(V a, V b) { return a | b; }
OP V v_choose(V mask, V a, V b) { return (a & mask) | (b & ~mask); }
OP V v_greater(V a, V b) { return a > b; }
OP V v_min(V a, V b) { return v_choose(a < b, a, b); }
OP V v_max(V a, V b) { return v_choose(a > b, a, b); }
OP V v_add(V a, V b) { return (V)((U)a + (U)b); }
OP V v_sub(V a, V b) { return (V)((U)a - (U)b); }
OP V v_mul(V a, V b) { return (V)((U)a * (U)b); }
OP V v_shl7(V a) { return (V)((U)a << 7); }
/* Where the sign is not what it must be, the end of the range on the side of `a`. */
OP V v_adds(V a, V b)
{
    V sum = v_add(a, b), wrong = ((a ^ sum) & (b ^ sum)) >> 15;
    return v_choose(wrong, (a >> 15) ^ v_all(32767), sum);
}
OP V v_subs(V a, V b)
{
    V difference = v_sub(a, b), wrong = ((a ^ b) & (a ^ difference)) >> 15;
    return v_choose(wrong, (a >> 15) ^ v_all(32767), difference);
}
OP V v_zip_lo16(V a, V b) { return SHUFFLE(a, b, V, 0, 8, 1, 9, 2, 10, 3, 11); }
OP V v_zip_hi16(V a, V b) { return SHUFFLE(a, b, V, 4, 12, 5, 13, 6, 14, 7, 15); }
OP V v_zip_lo32(V a, V b) { return (V)SHUFFLE((W)a, (W)b, W, 0, 4, 1, 5); }
OP V v_zip_hi32(V a, V b) { return (V)SHUFFLE((W)a, (W)b, W, 2, 6, 3, 7); }
OP V v_zip_lo64(V a, V b) { return (V)SHUFFLE((V64)a, (V64)b, V64, 0, 2); }
OP V v_zip_hi64(V a, V b) { return (V)SHUFFLE((V64)a, (V64)b, V64, 1, 3); }
OP V v_twice(const int16_t *p)
{
    V a = v_load(p);
    return v_zip_lo16(a, a);
}
OP int v_any(V a)
{
    V64 both = (V64)a;
    return (both[0] | both[1]) != 0;
}
OP W w_all(int32_t x) { return (W){x, x, x, x}; }
OP W w_add(W a, W b) { return (W)((UW)a + (UW)b); }
OP W w_sub(W a, W b) { return (W)((UW)a - (UW)b); }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
OP W w_lo(V a) { return (W)v_zip_lo16(a, a) >> 16; }
OP W w_hi(V a) { return (W)v_zip_hi16(a, a) >> 16; }
OP V w_join(W a, W b) { return SHUFFLE((V)a, (V)b, V, 0, 2, 4, 6, 8, 10, 12, 14); }
#else
OP W w_lo(V a) { return (W){a[0], a[1], a[2], a[3]}; }
OP W w_hi(V a) { return (W){a[4], a[5], a[6], a[7]}; }
OP V w_join(W a, W b) { return (V){a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]}; }
#endif
OP W w_mul_lo(V a, V b, int16_t k, int16_t l) { return w_lo(a) * w_all(k) + w_lo(b) * w_all(l); }
OP W w_mul_hi(V a, V b, int16_t k, int16_t l) { return w_hi(a) * w_all(k) + w_hi(b) * w_all(l); }
OP W w_shl13_lo(V a) { return w_lo(a) * w_all(8192); }
OP W w_shl13_hi(V a) { return w_hi(a) * w_all(8192); }
OP W w_fit(W a)
{
    W low = a<-32768, high = a> 32767;
    return (a & ~(low | high)) | (w_all(-32768) & low) | (w_all(32767) & high);
}
OP V w_pack_shr(W lo, W hi, int bits) { return w_join(w_fit(lo >> bits), w_fit(hi >> bits)); }
#define W_PACK_SHR w_pack_shr
OP V v_mulr(V a, V b)
{
    return w_join((w_lo(a) * w_lo(b) + 16384) >> 15, (w_hi(a) * w_hi(b) + 16384) >> 15);
}

OP void v_store_rgb(uint8_t *out, V red, V green, V blue)
{
    const V half = v_all(64), low = v_all(-128), high = v_all(127);
    red = v_max(v_min(v_adds(red, half) >> 7, high), low) + 128;
    green = v_max(v_min(v_adds(green, half) >> 7, high), low) + 128;
    blue = v_max(v_min(v_adds(blue, half) >> 7, high), low) + 128;
    for (int i = 0; i < 8; i++, out += 3) {
        out[0] = (uint8_t)red[i];
        out[1] = (uint8_t)green[i];
        out[2] = (uint8_t)blue[i];
    }
}
