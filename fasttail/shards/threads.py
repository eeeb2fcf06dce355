"""Looking at many samples in threads: the kernel and zlib let go of Python's lock."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from os import sched_getaffinity
from typing import TypeVar

CHUNK = 256  # samples that a thread looks at in one go
T = TypeVar("T")


def in_order(
    count: int, look: Callable[[int, int], T], chunk: int = CHUNK
) -> Generator[tuple[int, T]]:
    """`look(start, stop)` for every stretch of `count` samples, by a thread a core: (stop, what it
    returned), in the order of the samples. May be left early."""
    threads = len(sched_getaffinity(0))
    waiting: deque[tuple[int, Future[T]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, count, chunk):
            stop = min(start + chunk, count)
            waiting.append((stop, pool.submit(look, start, stop)))
            if len(waiting) > 2 * threads:
                stop, future = waiting.popleft()
                yield stop, future.result()
        while waiting:
            stop, future = waiting.popleft()
            yield stop, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
