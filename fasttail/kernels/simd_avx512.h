/* Vectors of AVX-512: four lanes, for the inverse DCT, which alone is long enough to gain by them. See
 * simd.h. */
#define LANES 4
typedef __m512i V;
typedef __m512i W;
OP V v_load_lanes(const int16_t *p, const int16_t *q)
{
    /* Of four blocks, two after each other above, two below: a row of each. */
    V r = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    r = _mm512_inserti32x4(r, _mm_loadu_si128((const __m128i *)q), 1);
    r = _mm512_inserti32x4(r, _mm_loadu_si128((const __m128i *)(p + FT_BLOCK)), 2);
    return _mm512_inserti32x4(r, _mm_loadu_si128((const __m128i *)(q + FT_BLOCK)), 3);
}
OP void v_store_half0(int16_t *p, V a) { _mm256_storeu_si256((__m256i *)p, _mm512_castsi512_si256(a)); }
OP void v_store_half1(int16_t *p, V a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_extracti64x4_epi64(a, 1));
}
OP V v_all(int16_t x) { return _mm512_set1_epi16(x); }
OP V v_every_lane(const int16_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}
OP V v_add(V a, V b) { return _mm512_add_epi16(a, b); }
OP V v_sub(V a, V b) { return _mm512_sub_epi16(a, b); }
OP V v_mul(V a, V b) { return _mm512_mullo_epi16(a, b); }
OP V v_min(V a, V b) { return _mm512_min_epi16(a, b); }
OP V v_max(V a, V b) { return _mm512_max_epi16(a, b); }
OP V v_shl7(V a) { return _mm512_slli_epi16(a, 7); }
OP V v_zip_lo16(V a, V b) { return _mm512_unpacklo_epi16(a, b); }
OP V v_zip_hi16(V a, V b) { return _mm512_unpackhi_epi16(a, b); }
OP V v_zip_lo32(V a, V b) { return _mm512_unpacklo_epi32(a, b); }
OP V v_zip_hi32(V a, V b) { return _mm512_unpackhi_epi32(a, b); }
OP V v_zip_lo64(V a, V b) { return _mm512_unpacklo_epi64(a, b); }
OP V v_zip_hi64(V a, V b) { return _mm512_unpackhi_epi64(a, b); }
OP V v_pair(int16_t k, int16_t l)
{
    return _mm512_set1_epi32((int32_t)((uint32_t)(uint16_t)l << 16 | (uint16_t)k));
}
OP W w_mul_lo(V a, V b, int16_t k, int16_t l)
{
    return _mm512_madd_epi16(v_zip_lo16(a, b), v_pair(k, l));
}
OP W w_mul_hi(V a, V b, int16_t k, int16_t l)
{
    return _mm512_madd_epi16(v_zip_hi16(a, b), v_pair(k, l));
}
OP W w_shl13_lo(V a) { return _mm512_srai_epi32(_mm512_unpacklo_epi16(_mm512_setzero_si512(), a), 3); }
OP W w_shl13_hi(V a) { return _mm512_srai_epi32(_mm512_unpackhi_epi16(_mm512_setzero_si512(), a), 3); }
OP W w_all(int32_t x) { return _mm512_set1_epi32(x); }
OP W w_add(W a, W b) { return _mm512_add_epi32(a, b); }
OP W w_sub(W a, W b) { return _mm512_sub_epi32(a, b); }
#define W_PACK_SHR(lo, hi, bits) \
    _mm512_packs_epi32(_mm512_srai_epi32(lo, bits), _mm512_srai_epi32(hi, bits))
