/* Threads that work through a queue of batches, in order.
 *
 *     submit ---> [batch 3] [batch 2] [batch 1] ---> threads, a few images at a time ---> wait
 *
 * A thread that finds no image left to start in a batch goes on to the next one, so no batch's slowest
 * image holds up the others. All state is under one lock; images take long beside it.
 */
#include "fasttail.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Images that a thread takes at a time: so many that they make about this many pixels. */
#define PIXELS_AT_A_TIME 16384

typedef struct ft_job {
    struct ft_job *next;
    int32_t count, at_a_time;
    int32_t started, finished; /* images */
    int32_t failed;            /* the first image that failed, or -1 */
    char message[FT_MESSAGE];  /* why */
    int32_t out_h, out_w;
    const uint64_t *src_B;     /* addresses */
    const int64_t *sizes_B;
    const uint8_t *raw_B, *check_B, *flips_B;
    const uint32_t *crc32_B;
    const int32_t *heights_B, *widths_B, *boxes_B4;
    uint8_t *out;
} ft_job;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    ft_job *first, *last; /* batches with images that nobody has started */
    int stopping;
    int32_t threads;
    pthread_t thread[];
} ft_pool;

/* Which sources this library was built from. */
FT_API const char *ft_digest(void)
{
    return FT_DIGEST;
}

static void work_off(ft_job *job, ft_decoder *decoder, int32_t from, int32_t to, int32_t *failed,
                     char message[FT_MESSAGE])
{
    size_t image_bytes = 3 * (size_t)job->out_h * job->out_w;
    *failed = -1;
    for (int32_t b = from; b < to; b++) {
        ft_item item = {
            .src = (const uint8_t *)(uintptr_t)job->src_B[b],
            .size = job->sizes_B[b],
            .raw = job->raw_B[b],
            .check = job->check_B[b],
            .crc32 = job->crc32_B[b],
            .height = job->heights_B[b],
            .width = job->widths_B[b],
            .flip = job->flips_B[b],
            .out_h = job->out_h,
            .out_w = job->out_w,
            .out = job->out + b * image_bytes,
        };
        memcpy(item.box, job->boxes_B4 + 4 * (size_t)b, sizeof item.box);
        if (ft_decode(decoder, &item, message)) {
            *failed = b;
            return; /* the batch is lost: the rest of it need not be made */
        }
    }
}

static void *run_thread(void *argument)
{
    ft_pool *pool = argument;
    ft_decoder *decoder = ft_decoder_new();
    char message[FT_MESSAGE] = "out of memory";

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stopping && !pool->first)
            pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->stopping)
            break;
        ft_job *job = pool->first;
        int32_t from = job->started, to = from + job->at_a_time, failed = from;
        if (to > job->count)
            to = job->count;
        job->started = to;
        if (to == job->count) {
            pool->first = job->next;
            if (!pool->first)
                pool->last = NULL;
        }
        pthread_mutex_unlock(&pool->lock);
        if (decoder)
            work_off(job, decoder, from, to, &failed, message);
        pthread_mutex_lock(&pool->lock);
        if (failed >= 0 && (job->failed < 0 || failed < job->failed)) {
            job->failed = failed;
            memcpy(job->message, message, FT_MESSAGE);
        }
        job->finished += to - from;
        if (job->finished == job->started)
            pthread_cond_broadcast(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    ft_decoder_free(decoder);
    return NULL;
}

/* Ends all threads; batches that are not finished stay unfinished. Nobody may wait for one. */
FT_API void ft_pool_free(ft_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = 1;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t t = 0; t < pool->threads; t++)
        pthread_join(pool->thread[t], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    free(pool);
}

/* A pool of `threads` threads, or NULL if the system gives no more. */
FT_API ft_pool *ft_pool_new(int32_t threads)
{
    ft_pool *pool = calloc(1, sizeof *pool + (size_t)threads * sizeof(pthread_t));
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);

    /* Signals, Ctrl-C among them, are the other threads'. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (pool->threads < threads && !failed) {
        failed = pthread_create(&pool->thread[pool->threads], NULL, run_thread, pool);
        pool->threads += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        ft_pool_free(pool);
        return NULL;
    }
    return pool;
}

/* Starts a batch of `count` images: addresses and sizes of their bytes, raw or JPEG, whose checksums to
 * check and what they are, heights and widths as the index has them, boxes int32 [B, 4], flips, output
 * uint8 [B, out_h, out_w, 3]. All memory must stay until `ft_job_end`. The batch, or NULL if memory runs
 * out. */
FT_API ft_job *ft_submit(ft_pool *pool, int32_t count, int32_t out_h, int32_t out_w,
                         const uint64_t *src_B, const int64_t *sizes_B, const uint8_t *raw_B,
                         const uint8_t *check_B, const uint32_t *crc32_B, const int32_t *heights_B, const int32_t *widths_B, const int32_t *boxes_B4,
                         const uint8_t *flips_B, uint8_t *out)
{
    ft_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    *job = (ft_job){.count = count, .failed = -1, .out_h = out_h, .out_w = out_w, .src_B = src_B,
                    .sizes_B = sizes_B, .raw_B = raw_B, .check_B = check_B, .crc32_B = crc32_B,
                    .heights_B = heights_B, .widths_B = widths_B, .boxes_B4 = boxes_B4, .flips_B = flips_B, .out = out};
    job->at_a_time = 1 + PIXELS_AT_A_TIME / (out_h * out_w);
    if (count == 0)
        return job;
    pthread_mutex_lock(&pool->lock);
    if (pool->last)
        pool->last->next = job;
    else
        pool->first = job;
    pool->last = job;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    return job;
}

/* Whether every image of the batch is finished, and none failed. */
FT_API int ft_job_done(ft_pool *pool, ft_job *job)
{
    pthread_mutex_lock(&pool->lock);
    int done = job->finished == job->count && job->failed < 0;
    pthread_mutex_unlock(&pool->lock);
    return done;
}

/* Waits for a batch and frees it. With `cancel`, no further image is started. -1, or the first image
 * that failed, with the reason in `message`. */
FT_API int32_t ft_job_end(ft_pool *pool, ft_job *job, int cancel, char message[FT_MESSAGE])
{
    pthread_mutex_lock(&pool->lock);
    if (cancel && job->started < job->count) {
        ft_job **link = &pool->first, *before = NULL;
        while (*link != job) {
            before = *link;
            link = &(*link)->next;
        }
        *link = job->next;
        if (pool->last == job)
            pool->last = before;
        job->count = job->started;
    }
    while (job->finished < job->count)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    int32_t failed = job->failed;
    if (failed >= 0)
        memcpy(message, job->message, FT_MESSAGE);
    free(job);
    return failed;
}
