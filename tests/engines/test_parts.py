"""Parts are mapped when they are needed, and what will be read is announced."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasttail.engines import parts as engine_parts
from fasttail.engines.parts import Parts
from fasttail.engines.table import Rows
from fasttail.plan import orders


class Files:
    """A source of two files, that notes which were asked for."""

    def __init__(self, folder: Path) -> None:
        self.part_paths = (folder / "a", folder / "b")
        self.asked: list[int] = []
        for path in self.part_paths:
            path.write_bytes(np.random.default_rng(len(path.name)).bytes(5 * mmap.PAGESIZE))

    def part_size(self, part: int) -> int:
        return self.part_paths[part].stat().st_size

    def part_bytes(self, part: int) -> np.ndarray:
        self.asked.append(part)
        return np.memmap(self.part_paths[part], np.uint8, "r").view(np.ndarray)


def rows(parts: list[int], offsets: list[int], sizes: list[int]) -> Rows:
    none_B = np.zeros(len(parts), np.int64)
    columns = (np.array(parts, np.int32), np.array(offsets), np.array(sizes))
    return Rows(*columns, *[none_B] * 4)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    return Files(tmp_path)


def test_a_part_is_asked_for_once_when_a_batch_first_needs_it(files: Any) -> None:
    parts = Parts(files)
    assert files.asked == []
    parts.addresses(rows([1, 1], [0, 9], [5, 5]))
    parts.addresses(rows([1], [3], [5]))
    assert files.asked == [1]
    parts.addresses(rows([1, 0], [3, 4], [5, 5]))
    assert files.asked == [1, 0]


def test_the_system_is_told_of_every_byte_of_a_large_part_and_of_no_other(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, int]] = []
    monkeypatch.setattr(engine_parts, "_madvise", lambda *what: told.append(what))
    Parts(files).addresses(rows([0], [0], [9]))
    assert told == []  # small files may as well be read in whole

    monkeypatch.setattr(engine_parts, "READ_AHEAD_FITS", 1000)
    monkeypatch.setattr(orders, "READ_AHEAD_FITS", 1000)
    offsets, sizes = [0, mmap.PAGESIZE - 1, 3 * mmap.PAGESIZE + 7], [10, 2, 2 * mmap.PAGESIZE - 7]
    starts_B = Parts(files).addresses(rows([0] * 3, offsets, sizes))
    begin = int(starts_B[0])
    assert begin % mmap.PAGESIZE == 0
    assert [start - begin for start, _, _ in told] == [0, 0, 3 * mmap.PAGESIZE]
    assert [length for _, length, _ in told] == [10, mmap.PAGESIZE + 1, 2 * mmap.PAGESIZE]
    assert {advice for *_, advice in told} == {mmap.MADV_WILLNEED}


def test_a_large_part_is_read_here_and_there_by_a_map_of_its_own(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_parts, "READ_AHEAD_FITS", 1000)
    monkeypatch.setattr(orders, "READ_AHEAD_FITS", 1000)
    kept: list[np.ndarray] = []
    given = files.part_bytes
    files.part_bytes = lambda part: kept.append(given(part)) or kept[-1]
    starts_B = Parts(files).addresses(rows([0], [4], [9]))
    assert int(starts_B[0]) != kept[0].ctypes.data + 4
