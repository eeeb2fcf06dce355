"""`auto` picks by device, size and what is installed, and says why."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from fasttail import engines, kernels
from fasttail.engines import auto, dali, ffcv, trial
from fasttail.engines.base import Batch, Engine
from fasttail.errors import MissingExtra, UserError

from .conftest import FixedPlan, StoredSplit, photo, random_plan

Store = Callable[[Sequence[bytes | np.ndarray]], StoredSplit]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def large(store: Store) -> StoredSplit:
    return store([photo(70, 80, seed=1), photo(80, 70, seed=2)])


def pretend(monkeypatch: pytest.MonkeyPatch, *, has_dali: bool, has_ffcv: bool) -> None:
    monkeypatch.setattr(dali, "available", lambda: has_dali)
    monkeypatch.setattr(ffcv, "available", lambda: has_ffcv)


@pytest.mark.parametrize(
    ("device", "has_dali", "has_ffcv", "expected"),
    [
        (GPU, True, True, "dali"),
        (GPU, False, True, "ffcv"),
        (CPU, True, True, "ffcv"),
        (CPU, True, False, "reference"),
        (GPU, False, False, "reference"),
    ],
)
def test_large_images_go_to_the_best_decoder_there_is(
    monkeypatch: pytest.MonkeyPatch,
    large: StoredSplit,
    device: torch.device,
    has_dali: bool,
    has_ffcv: bool,
    expected: str,
) -> None:
    pretend(monkeypatch, has_dali=has_dali, has_ffcv=has_ffcv)
    name, why = auto.choose(large, device)
    assert name == expected
    assert why


def test_small_images_stay_on_the_device_while_they_take_less_than_a_quarter(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    split = store([photo(64, 64, seed=i) for i in range(3)])
    need = 3 * 64 * 64 * 3
    for have, expected in [(4 * need, "resident"), (4 * need - 1, "ffcv")]:
        pretend(monkeypatch, has_dali=True, has_ffcv=True)
        monkeypatch.setattr(auto, "_memory_bytes", lambda device, have=have: have)
        assert auto.choose(split, CPU)[0] == expected


def test_small_images_of_several_sizes_are_decoded(store: Store) -> None:
    assert auto.choose(store([photo(20, 20, seed=1), photo(20, 21, seed=2)]), CPU)[0] != "resident"


def test_there_is_a_choice_on_a_gpu_with_two_decoders_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, large: StoredSplit, store: Store
) -> None:
    small = store([photo(8, 8, seed=1)])
    for has_dali, has_ffcv, found in [(True, True, ["ffcv", "dali"]), (True, False, ["dali"])]:
        pretend(monkeypatch, has_dali=has_dali, has_ffcv=has_ffcv)
        assert auto.decoders(GPU) == found
        assert trial.rivals(large, GPU) == (found if len(found) > 1 else [])
        assert trial.rivals(large, CPU) == []
    pretend(monkeypatch, has_dali=True, has_ffcv=True)
    monkeypatch.setattr(auto, "_memory_bytes", lambda device: 1e9)
    assert trial.rivals(small, GPU) == []


@pytest.mark.parametrize(
    ("needed", "expected"), [(1000.0, "ffcv"), (1250.0, "ffcv"), (1300.0, "dali"), (9e9, "dali")]
)
def test_a_cpu_that_gives_more_than_the_network_takes_leaves_it_the_gpu(
    needed: float, expected: str
) -> None:
    choice = trial.best({"ffcv": 1400.0, "dali": 5200.0}, needed)
    assert choice.engine == expected
    assert "images/s: ffcv 1,400, dali 5,200; the network takes" in choice.why
    assert choice.network_images_per_s == needed


def test_each_engine_is_tried_on_the_plan_and_what_does_not_work_is_left_out(
    monkeypatch: pytest.MonkeyPatch, large: StoredSplit
) -> None:
    """By engines that wait so long a batch."""

    class Waits:
        device = CPU

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def run(self, plan: FixedPlan, start: int = 0) -> Iterator[Batch]:
            for step in range(plan.steps):
                time.sleep(self.seconds)
                labels_B = torch.from_numpy(plan.batch(step).labels_B)
                yield Batch(labels_B, labels_B, labels_B)

        def close(self) -> None: ...

    def broken(*_: object) -> Engine:
        raise RuntimeError("no driver")

    made = {"ffcv": lambda *_: Waits(0.02), "dali": lambda *_: Waits(0.002), "third": broken}
    monkeypatch.setattr(engines, "ENGINES", made)
    monkeypatch.setattr(auto, "decoders", lambda device: list(made))
    monkeypatch.setattr(auto, "choose", lambda split, device: ("ffcv", "by itself"))
    monkeypatch.setattr(trial, "SECONDS", 0.1)
    plan = random_plan(large, (8, 8), batch=4, draws=40, seed=1)
    choice = trial.choose(large, plan, device=CPU, threads=1, needed=1e4)
    assert choice.engine == "dali"
    assert set(choice.images_per_s) == {"ffcv", "dali"}
    assert choice.images_per_s["ffcv"] < choice.images_per_s["dali"] / 2
    assert trial.choose(large, plan, device=CPU, threads=1, needed=1.0).engine == "ffcv"
    monkeypatch.setattr(engines, "ENGINES", {"ffcv": broken, "dali": broken, "third": broken})
    assert trial.choose(large, plan, device=CPU, threads=1, needed=1.0).why == "by itself"


def test_the_choice_is_logged_with_its_reason(
    caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    with caplog.at_level(logging.INFO, "fasttail.engines"):
        engine = engines.make("auto", store([photo(8, 8, seed=1)]), device=CPU, threads=1)
    engine.close()
    assert engine.name == "resident"
    assert "engine resident: 1 images of 8x8 take" in caplog.text


def test_what_is_missing_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, large: StoredSplit
) -> None:
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(kernels, "why_missing", lambda: "build it")
    monkeypatch.setattr(dali, "available", lambda: False)
    with pytest.raises(UserError, match="the engine ffcv needs fasttail's kernel: build it"):
        engines.make("ffcv", large, device=CPU, threads=1)
    with pytest.raises(MissingExtra, match=r"fasttail\[dali\]"):
        engines.make("dali", large, device=CPU, threads=1)
