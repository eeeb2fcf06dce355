/* Threads that work through a queue of batches, in order.
 *
 *     submit ---> [batch 3] [batch 2] [batch 1] ---> threads, a few images at a time ---> end
 *
 * A thread that finds no image left to start in a batch goes on to the next one, so no batch's slowest
 * image holds up the others. All state is under one lock; images take long beside it.
 *
 * Who calls may be interrupted at any moment, also between a call's return and the note that it was
 * made (a Ctrl-C in Python). So the caller owns a job's memory, `ft_job_end` may be called any number of
 * times, before, during and after the pool's life, and what is left over can be given up by not
 * freeing it: nothing here ever frees what somebody may still name.
 */
#include "fasttail.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Images that a thread takes at a time: so many that they make about this many pixels. */
#define PIXELS_AT_A_TIME 16384

typedef struct ft_pool ft_pool;

/* All zero until it is submitted, and again all zero but for its outcome when it has ended. */
typedef struct ft_job {
    ft_pool *pool; /* while it is in the pool; it keeps the pool's memory alive */
    struct ft_job *next;
    const ft_item *items;
    int32_t count, at_a_time;
    int32_t started, finished; /* images */
    int32_t failed;            /* 1 + the first image that failed, 0: none */
    int32_t left;              /* some were left out */
    char message[FT_MESSAGE];  /* why it failed */
} ft_job;

struct ft_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    ft_job *first, *last; /* batches with images that nobody has started */
    int stopping;         /* threads start no further image */
    int stopped;          /* there are no threads any more */
    int32_t holders;      /* jobs, and whoever made the pool */
    int32_t threads;
    pthread_t thread[];
};

/* Which sources this library was built from. */
FT_API const char *ft_digest(void)
{
    return FT_DIGEST;
}

/* Bytes of the memory that `ft_submit` is given for a job. */
FT_API int64_t ft_job_bytes(void)
{
    return sizeof(ft_job);
}

/* --- a file that became shorter --------------------------------------------------------------- */

/* Reading a mapped file beyond its present end raises SIGBUS in the thread that reads. In a decoding
 * thread this is an error of the sample; anywhere else it is as if there were no handler here. */
static _Thread_local sigjmp_buf *reading;
static struct sigaction bus_before;

static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (reading)
        siglongjmp(*reading, 1);
    /* The instruction that failed runs again, and what was there before this handler sees to it. */
    sigaction(number, &bus_before, NULL);
}

static void catch_bus(void)
{
    /* SA_NODEFER: the jump out of the handler would leave the signal blocked. */
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER}, now;
    sigemptyset(&action.sa_mask);
    if (!sigaction(SIGBUS, NULL, &now) && now.sa_sigaction != on_bus &&
        !sigaction(SIGBUS, &action, &now))
        bus_before = now;
}

/* --- threads ----------------------------------------------------------------------------------- */

/* Makes images from .. to - 1; the one that failed, or -1. */
static int32_t work_off(const ft_job *job, ft_decoder **decoder, int32_t from, int32_t to,
                        char message[FT_MESSAGE])
{
    volatile int32_t at = from;
    sigjmp_buf jump;
    if (sigsetjmp(jump, 0)) {
        reading = NULL;
        /* It was left in the middle of its work. */
        ft_decoder_free(*decoder);
        *decoder = ft_decoder_new();
        snprintf(message, FT_MESSAGE, "its file has become shorter: its bytes can't be read");
        return at;
    }
    reading = &jump;
    for (; at < to; at = at + 1)
        if (!*decoder || ft_decode(*decoder, &job->items[at], message))
            break; /* the batch is lost: the rest of it need not be made */
    reading = NULL;
    return at < to ? at : -1;
}

static void *run_thread(void *argument)
{
    ft_pool *pool = argument;
    ft_decoder *decoder = ft_decoder_new();

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stopping && !pool->first)
            pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->stopping)
            break;
        ft_job *job = pool->first;
        int32_t from = job->started, to = from + job->at_a_time;
        if (to > job->count)
            to = job->count;
        job->started = to;
        if (to == job->count) {
            pool->first = job->next;
            if (!pool->first)
                pool->last = NULL;
        }
        pthread_mutex_unlock(&pool->lock);
        char message[FT_MESSAGE] = "out of memory";
        int32_t failed = work_off(job, &decoder, from, to, message);
        pthread_mutex_lock(&pool->lock);
        if (failed >= 0 && (!job->failed || failed < job->failed - 1)) {
            job->failed = failed + 1;
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

/* One holder less; the last one frees. */
static void let_go(ft_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    int32_t holders = --pool->holders;
    pthread_mutex_unlock(&pool->lock);
    if (holders)
        return;
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    free(pool);
}

/* Ends all threads, once the images that they are at are made, and lets go of the pool. Batches that
 * are not finished stay unfinished, and whoever waits for one returns. To be called once. */
FT_API void ft_pool_free(ft_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = 1;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t t = 0; t < pool->threads; t++)
        pthread_join(pool->thread[t], NULL);
    pthread_mutex_lock(&pool->lock);
    pool->stopped = 1;
    pthread_cond_broadcast(&pool->done);
    pthread_mutex_unlock(&pool->lock);
    let_go(pool);
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
    pool->holders = 1;
    catch_bus();

    /* Signals, Ctrl-C among them, are the other threads', but for those by which the processor tells a
     * thread of its own fault: blocked, they would end the process before anybody could report them. */
    sigset_t mask, before;
    sigfillset(&mask);
    const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&mask, own[i]);
    pthread_sigmask(SIG_SETMASK, &mask, &before);
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

/* --- batches ----------------------------------------------------------------------------------- */

/* Starts a batch of `count` images, all of one output size. `job` is `ft_job_bytes` of zeros; it, the
 * items and all memory that they name must stay until `ft_job_end` has returned. */
FT_API void ft_submit(ft_pool *pool, ft_job *job, const ft_item *items, int32_t count)
{
    pthread_mutex_lock(&pool->lock);
    job->pool = pool;
    job->items = items;
    job->count = count;
    pool->holders++;
    if (count > 0) {
        job->at_a_time = 1 + PIXELS_AT_A_TIME / (items->out_h * items->out_w);
        if (pool->last)
            pool->last->next = job;
        else
            pool->first = job;
        pool->last = job;
        pthread_cond_broadcast(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* Whether every image of the batch is there: it has not failed, nor ended before. */
FT_API int ft_job_done(ft_job *job)
{
    ft_pool *pool = job->pool;
    if (!pool)
        return !job->failed && !job->left;
    pthread_mutex_lock(&pool->lock);
    int done = job->finished == job->count && !job->failed;
    pthread_mutex_unlock(&pool->lock);
    return done;
}

/* Takes a batch out of the queue: what has not been started of it is left out. */
static void leave_out(ft_pool *pool, ft_job *job)
{
    ft_job **link = &pool->first, *before = NULL;
    while (*link != job) {
        before = *link;
        link = &(*link)->next;
    }
    *link = job->next;
    if (pool->last == job)
        pool->last = before;
    job->count = job->started;
    job->left = 1;
}

/* Waits until nothing writes into the batch's memory any more. With `cancel`, no further image is
 * started. -1: every image is there; -2: not all are, for it was cancelled or the pool has ended; else
 * the first image that failed, with the reason in `message`. Called again, it returns the same; for a
 * job that was never submitted, -1. */
FT_API int32_t ft_job_end(ft_job *job, int cancel, char message[FT_MESSAGE])
{
    ft_pool *pool = job->pool;
    if (pool) {
        pthread_mutex_lock(&pool->lock);
        if (cancel && job->started < job->count)
            leave_out(pool, job);
        while (!pool->stopped && job->finished < job->count)
            pthread_cond_wait(&pool->done, &pool->lock);
        if (job->started < job->count)
            leave_out(pool, job);
        job->pool = NULL;
        pthread_mutex_unlock(&pool->lock);
        let_go(pool);
    }
    if (job->failed)
        memcpy(message, job->message, FT_MESSAGE);
    return job->failed ? job->failed - 1 : job->left ? -2 : -1;
}
