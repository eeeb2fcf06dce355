"""The order of copies, events and streams, by stand-ins that write down what they are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from fakegpu import GPU, fake_gpu

from fasttail.engines import loop
from fasttail.engines.base import Batch, BatchPlan
from fasttail.engines.buffers import Buffers
from fasttail.engines.upload import Upload

PLAN = BatchPlan(
    ids_B=np.arange(4),
    labels_B=np.zeros(4, np.int64),
    boxes_B4=np.zeros((4, 4), np.int32),
    flips_B=np.zeros(4, np.bool_),
)


class Stream:
    device = GPU

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log

    def wait_event(self, event: "Event") -> None:
        self._log.append(f"{self.name} waits for {event}")


class Event:
    def __init__(self) -> None:
        self.recorded = ""

    def __str__(self) -> str:
        return f"the event of {self.recorded}"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done in which stream, in order."""
    said: list[str] = []
    inside = ["default"]

    def record(self: Event, stream: Stream) -> None:
        self.recorded = stream.name
        said.append(f"event in {stream.name}")

    monkeypatch.setattr(Event, "record", record, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)

    @contextmanager
    def entered(stream: Stream) -> Iterator[None]:
        inside.append(stream.name)
        yield
        inside.pop()

    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(inside[-1], said))
    to = torch.Tensor.to

    def copied(self: torch.Tensor, *where: Any, **how: Any) -> torch.Tensor:
        if where and where[0] == GPU:
            assert how == {"non_blocking": True}
            said.append(f"copy in {inside[-1]}")
        return to(self, *where, **how)

    monkeypatch.setattr(torch.Tensor, "to", copied)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: said.append(f"kept for {stream.name}")
    )
    empty = torch.empty

    def unpinned(*size: Any, pin_memory: bool = False, **how: Any) -> torch.Tensor:
        assert pin_memory, "from pageable memory the host would wait"
        return empty(*size, **how)

    monkeypatch.setattr(torch, "empty", unpinned)
    return said


def test_the_receiver_waits_for_the_copy_and_keeps_its_memory(log: list[str]) -> None:
    with fake_gpu():
        backing = torch.empty((4, 8, 8, 3), dtype=torch.uint8, pin_memory=True)
        slot = Slotted(backing)
        upload = Upload(slot, PLAN, Stream("copies", log))  # type: ignore[arg-type]
        assert log == ["copy in copies", "copy in copies", "event in copies"]
        del log[:]
        batch = upload.finish()
    assert log == ["default waits for the event of copies", "kept for default", "kept for default"]
    assert {batch.images_BHWC.device, batch.labels_B.device, batch.ids_B.device} == {GPU}


class Slotted:
    """As much of a slot as an upload takes."""

    def __init__(self, tensor_BHWC: torch.Tensor) -> None:
        self.tensor_BHWC = tensor_BHWC


def test_the_next_batch_is_copied_before_this_one_is_handed_over_once_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    class Ticket:
        def __init__(self, number: int) -> None:
            self.number = number

        def done(self) -> bool:
            return self.number != 2  # the third one is late

        def wait(self) -> None:
            said.append(f"decoded {self.number}")

        def cancel(self) -> None: ...

    class Copy:
        def __init__(self, slot: object, plan: BatchPlan, stream: object) -> None:
            self.number = int(plan.ids_B[0])
            said.append(f"copy {self.number}")

        def finish(self) -> Batch:
            said.append(f"hand over {self.number}")
            nothing = torch.zeros(1)
            return Batch(nothing, nothing, nothing)

    class Plan:
        steps, out_hw, max_batch = 4, (8, 8), 1

        def batch(self, step: int) -> BatchPlan:
            return BatchPlan(
                np.array([step]),
                np.zeros(1, np.int64),
                np.zeros((1, 4), np.int32),
                np.zeros(1, bool),
            )

    monkeypatch.setattr(loop, "Upload", Copy)
    buffers = Buffers((1, 8, 8, 3), pinned=False, keep=5)
    submitted = iter(range(4))
    batches = loop.run_ahead(
        Plan(),
        0,
        lambda batch, images: Ticket(next(submitted)),  # type: ignore[arg-type, return-value]
        buffers,
        "a stream",  # type: ignore[arg-type]
    )
    assert len(list(batches)) == 4
    assert said == [
        *("decoded 0", "copy 0", "decoded 1", "copy 1", "hand over 0"),
        *("decoded 1", "hand over 1"),
        *("decoded 2", "copy 2", "decoded 3", "copy 3", "hand over 2"),
        *("decoded 3", "hand over 3"),
    ]
