/* Vectors of NEON: one lane. See simd.h. */
#define LANES 1
typedef int16x8_t V;
typedef int32x4_t W;
OP V v_load(const int16_t *p) { return vld1q_s16(p); }
OP V v_load_bytes(const uint8_t *p, const uint8_t *q)
{
    (void)q;
    return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p)));
}
OP V v_twice(const int16_t *p)
{
    int16x4_t a = vld1_s16(p);
    return vcombine_s16(vzip1_s16(a, a), vzip2_s16(a, a));
}
OP void v_store(int16_t *p, V a) { vst1q_s16(p, a); }
OP V v_all(int16_t x) { return vdupq_n_s16(x); }
OP V v_evens(void) { return vreinterpretq_s16_u32(vdupq_n_u32(0xFFFF)); }
OP V v_odds(void) { return vreinterpretq_s16_u32(vdupq_n_u32(0xFFFF0000)); }
OP V v_every_lane(const int16_t *p) { return vld1q_s16(p); }
OP V v_add(V a, V b) { return vaddq_s16(a, b); }
OP V v_sub(V a, V b) { return vsubq_s16(a, b); }
OP V v_adds(V a, V b) { return vqaddq_s16(a, b); }
OP V v_subs(V a, V b) { return vqsubq_s16(a, b); }
OP V v_mul(V a, V b) { return vmulq_s16(a, b); }
OP V v_mulr(V a, V b)
{
    return vqrdmulhq_s16(a, b);
} /* other than mulhrs for -32768 squared only: no weight is that */
OP V v_min(V a, V b) { return vminq_s16(a, b); }
OP V v_max(V a, V b) { return vmaxq_s16(a, b); }
OP V v_greater(V a, V b) { return vreinterpretq_s16_u16(vcgtq_s16(a, b)); }
OP V v_and(V a, V b) { return vandq_s16(a, b); }
OP V v_or(V a, V b) { return vorrq_s16(a, b); }
OP V v_shl7(V a) { return vshlq_n_s16(a, 7); }
OP int v_any(V a) { return vmaxvq_u16(vreinterpretq_u16_s16(a)) != 0; }
OP V v_zip_lo16(V a, V b) { return vzip1q_s16(a, b); }
OP V v_zip_hi16(V a, V b) { return vzip2q_s16(a, b); }
#define WIDER(zip, size, a, b) \
    vreinterpretq_s16_s##size( \
        zip##_s##size(vreinterpretq_s##size##_s16(a), vreinterpretq_s##size##_s16(b)))
OP V v_zip_lo32(V a, V b) { return WIDER(vzip1q, 32, a, b); }
OP V v_zip_hi32(V a, V b) { return WIDER(vzip2q, 32, a, b); }
OP V v_zip_lo64(V a, V b) { return WIDER(vzip1q, 64, a, b); }
OP V v_zip_hi64(V a, V b) { return WIDER(vzip2q, 64, a, b); }
OP W w_mul_lo(V a, V b, int16_t k, int16_t l)
{
    return vmlal_n_s16(vmull_n_s16(vget_low_s16(a), k), vget_low_s16(b), l);
}
OP W w_mul_hi(V a, V b, int16_t k, int16_t l)
{
    return vmlal_n_s16(vmull_n_s16(vget_high_s16(a), k), vget_high_s16(b), l);
}
OP W w_shl13_lo(V a) { return vshll_n_s16(vget_low_s16(a), 13); }
OP W w_shl13_hi(V a) { return vshll_n_s16(vget_high_s16(a), 13); }
OP W w_all(int32_t x) { return vdupq_n_s32(x); }
OP W w_add(W a, W b) { return vaddq_s32(a, b); }
OP W w_sub(W a, W b) { return vsubq_s32(a, b); }
#define W_PACK_SHR(lo, hi, bits) \
    vcombine_s16(vqmovn_s32(vshrq_n_s32(lo, bits)), vqmovn_s32(vshrq_n_s32(hi, bits)))

OP uint8x8_t v_bytes(V a)
{
    return vreinterpret_u8_s8(
        veor_s8(vqmovn_s16(vshrq_n_s16(v_adds(a, v_all(64)), 7)), vdup_n_s8((int8_t)-128)));
}
OP void v_store_rgb(uint8_t *out, V red, V green, V blue)
{
    vst3_u8(out, ((uint8x8x3_t){{v_bytes(red), v_bytes(green), v_bytes(blue)}}));
}
