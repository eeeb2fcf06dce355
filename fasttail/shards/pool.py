"""Worker processes that may die: whatever an image does to its decoder, the conversion goes on.

Each worker has one task at a time. If it dies in the middle of an image, or decodes one for longer
than is allowed, the pool knows the image (`worker.Status`), starts another worker and gives it the
task again; an image that kills a second worker, or that hangs, is left out.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait

from fasttail.errors import UserError
from fasttail.shards import program
from fasttail.shards.containers import Container
from fasttail.shards.image import Rule
from fasttail.shards.worker import Done, Failed, Status, Task

# How a decoder ends a process. SIGKILL is not among them: that is a person or a lack of memory.
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
_TICK_S = 0.5


class WriteError(Exception):
    """A worker could not write: `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Process:
    """One worker process and its ends of the pipes."""

    def __init__(self, rule: Rule, container: Container, lock_fd: int) -> None:
        self.connection, theirs = Pipe()
        status_fd = os.memfd_create("fasttail-status")
        os.ftruncate(status_fd, 24)
        self.status = Status(status_fd)
        self.task: Task | None = None
        paths = os.pathsep.join(p for p in sys.path if p)
        command = [sys.executable, "-c", "from fasttail.shards.worker import main; main()"]
        numbers = [theirs.fileno(), status_fd, lock_fd, os.getpid()]
        self.process = subprocess.Popen(
            [*command, *map(str, numbers)],
            pass_fds=numbers[:3],
            stdin=subprocess.DEVNULL,
            # One core a worker: libraries must not start threads of their own.
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        os.close(status_fd)
        self.connection.send((rule, container, program.this_one()))

    def give(self, task: Task) -> None:
        self.task = task
        self.status.set(task.number, -1, 0.0)
        # If it has died, that is seen where results are waited for.
        with suppress(ConnectionError):
            self.connection.send(task)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.status.close()


class Pool:
    """Runs tasks in `jobs` worker processes. A context manager: leaving it ends them."""

    def __init__(self, jobs: int, rule: Rule, container: Container, timeout_s: float) -> None:
        self.jobs = jobs
        self.timeout_s = timeout_s
        self._rule, self._container = rule, container
        self._workers: list[_Process] = []
        self._suspects: set[tuple[int, int]] = set()
        self._again: deque[Task] = deque()
        self._lock_fd = os.memfd_create("fasttail-big-image")

    def start(self, workers: int) -> None:
        """Starts up to so many workers: they get ready while this process does other things."""
        while len(self._workers) < min(workers, self.jobs):
            self._workers.append(_Process(self._rule, self._container, self._lock_fd))

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        os.close(self._lock_fd)

    def run(self, tasks: Iterator[Task], on_done: Callable[[Task, Done], None]) -> None:
        """Has every task done, in any order; `on_done` is called here, in this process.

        Raises `WriteError` if a worker can't write, `UserError` if one is killed from outside.
        """
        while True:
            self._hand_out(tasks)
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            by_connection = {worker.connection: worker for worker in busy}
            for connection in wait(list(by_connection), _TICK_S):
                assert isinstance(connection, Connection)
                self._receive(by_connection[connection], on_done)
            self._stop_hanging()

    def _hand_out(self, tasks: Iterator[Task]) -> None:
        for k in range(self.jobs):
            if k < len(self._workers) and self._workers[k].task is not None:
                continue
            task = self._again.popleft() if self._again else next(tasks, None)
            if task is None:
                return
            if k == len(self._workers):
                self._workers.append(_Process(self._rule, self._container, self._lock_fd))
            self._workers[k].give(task)

    def _receive(self, worker: _Process, on_done: Callable[[Task, Done], None]) -> None:
        try:
            result = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._replace(worker, self._cause_of_death(worker))
            return
        task, worker.task = worker.task, None
        if isinstance(result, Failed):
            if result.mistake:
                raise UserError(result.text)
            if result.errno is None:
                raise RuntimeError(f"a worker failed:\n{result.text}")
            raise WriteError(OSError(result.errno, os.strerror(result.errno)))
        assert isinstance(result, Done)
        assert task is not None
        on_done(task, result)

    def _cause_of_death(self, worker: _Process) -> str | None:
        """How the image that it was at is to be reported; None: to be tried once more."""
        code = worker.process.wait()
        number, image, _ = worker.status.get()
        assert worker.task is not None
        name = "its start" if image < 0 else worker.task.images.name(image)
        if -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            raise UserError(
                f"a worker process was killed (signal {-code}) at {name}: by hand, or because "
                "memory ran out; run the same command again: it keeps the finished shards"
            )
        if image < 0:
            raise RuntimeError(f"a worker process ended with exit code {code} before it began")
        how = signal.Signals(-code).name if -code in _CRASHES else f"exit code {code}"
        if (number, image) in self._suspects:
            return f"the decoder crashes on it ({how})"
        self._suspects.add((number, image))
        return None

    def _stop_hanging(self) -> None:
        for worker in list(self._workers):
            number, image, since = worker.status.get()
            if worker.task is None or not since or worker.task.number != number or image < 0:
                continue
            if time.monotonic() - since > self.timeout_s:
                worker.process.kill()
                worker.process.wait()
                self._replace(worker, f"decoding takes more than {self.timeout_s:g} s")

    def _replace(self, worker: _Process, reason: str | None) -> None:
        task = worker.task
        assert task is not None
        _, image, _ = worker.status.get()
        if reason is not None:
            task = replace(task, skip={**task.skip, image: reason})
        self._again.append(task)
        self._workers.remove(worker)
        worker.end()
