"""`auto` picks by device, size and what is installed, and says why."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from fasttail import engines, kernels
from fasttail.engines import auto, dali, ffcv
from fasttail.errors import MissingExtra, UserError

from .conftest import StoredSplit, photo

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
