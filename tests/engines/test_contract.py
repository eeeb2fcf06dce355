"""What every engine promises, checked over every engine."""

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from fasttail import engines, kernels
from fasttail.engines import dali, ffcv, resident
from fasttail.engines.base import Batch, BatchPlan, Engine
from fasttail.errors import CorruptSample, UserError

from .conftest import FixedPlan, StoredSplit, jpeg, photo, random_plan

Store = Callable[[Sequence[bytes | np.ndarray]], StoredSplit]
CPU = torch.device("cpu")

NEEDS = {
    "ffcv": pytest.mark.skipif(not ffcv.available(), reason=kernels.why_missing()),
    "dali": pytest.mark.dali,
}
DECODING = [pytest.param(name, marks=NEEDS.get(name, ())) for name in ("reference", "ffcv", "dali")]
ALL = [*DECODING, pytest.param("resident"), pytest.param("synthetic")]


@pytest.fixture
def make() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(name: str, split: StoredSplit, threads: int = 2) -> Engine:
        if name == "dali" and not dali.available():
            pytest.skip("DALI is not installed")
        made.append(engines.make(name, split, device=CPU, threads=threads))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def pixels(batches: Sequence[Batch]) -> torch.Tensor:
    return torch.cat([batch.images_BHWC for batch in batches])


def photos(count: int) -> list[bytes | np.ndarray]:
    """JPEGs of every sampling, and every third stored raw."""
    stored: list[bytes | np.ndarray] = []
    for i in range(count):
        image = photo(70 + 7 * (i % 5), 90 - 6 * (i % 4), seed=i)
        options = [
            {"subsampling": 0},
            {"subsampling": 2},
            {"subsampling": 1, "restart_marker_rows": 1},
            {"progressive": True},
        ][i % 4]
        stored.append(image if i % 3 == 2 else jpeg(image, **options))
    return stored


@pytest.mark.parametrize("name", ALL)
def test_labels_and_ids_are_the_planned_ones(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    split = store([photo(16, 16, seed=i) for i in range(9)])
    plan = random_plan(split, (8, 8), batch=4, draws=22, seed=1)
    engine = make(name, split)
    batches = list(engine.run(plan))
    assert len(batches) == plan.steps == 6
    for batch, planned in zip(batches, plan.batches, strict=True):
        assert batch.images_BHWC.shape == (len(planned.ids_B), 8, 8, 3)
        assert batch.images_BHWC.dtype == torch.uint8
        assert batch.labels_B.dtype == batch.ids_B.dtype == torch.int64
        np.testing.assert_array_equal(batch.ids_B, planned.ids_B)
        np.testing.assert_array_equal(batch.labels_B, planned.labels_B)
    later = list(engine.run(plan, start=4))
    assert [batch.ids_B.tolist() for batch in later] == [b.ids_B.tolist() for b in batches[4:]]
    assert torch.equal(pixels(later), pixels(batches[4:]))


@pytest.mark.parametrize("name", DECODING[1:])
@pytest.mark.parametrize("out_hw", [(48, 40), (14, 17), (120, 100)])
def test_pixels_are_the_references(
    make: Callable[..., Engine], store: Store, name: str, out_hw: tuple[int, int]
) -> None:
    split = store(photos(16))
    plan = random_plan(split, out_hw, batch=7, draws=60, seed=2)
    expected = pixels(list(make("reference", split).run(plan))).float()
    found = pixels(list(make(name, split).run(plan))).float()
    assert expected.std() > 20
    difference = (found - expected).abs().mean((1, 2, 3))
    assert difference.mean() <= 1.5
    assert difference.max() <= 2.5
    assert abs((found - expected).mean()) <= 0.05


@pytest.mark.parametrize("name", DECODING)
def test_odd_shapes_and_kinds_decode_everywhere(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    samples = [
        jpeg(photo(1, 1, seed=1)),
        jpeg(photo(1, 60, seed=2)),
        jpeg(photo(60, 1, seed=3), subsampling=2),
        jpeg(photo(33, 31, seed=4)[:, :, 0]),
        jpeg(photo(50, 70, seed=5), progressive=True),
        jpeg(photo(50, 70, seed=6), restart_marker_blocks=2),
    ]
    split = store(samples)
    boxes, ids = [], []
    for i, (height, width) in enumerate(zip(split.heights_N, split.widths_N, strict=True)):
        height, width = int(height), int(width)
        side_h, side_w = max(1, height // 2), max(1, width // 2)
        for top in (-2, 0, height - side_h, height - side_h + 3):
            for left in (-2, 0, width - side_w, width - side_w + 3):
                boxes.append((top, left, side_h + 2, side_w + 2))
                ids.append(i)
    count = len(ids)
    plan = FixedPlan(
        [
            BatchPlan(
                np.array(ids),
                np.zeros(count, np.int64),
                np.array(boxes, np.int32),
                np.arange(count) % 2 == 1,
            )
        ],
        (24, 24),
    )
    expected = pixels(list(make("reference", split).run(plan))).float()
    found = pixels(list(make(name, split).run(plan))).float()
    assert (found - expected).abs().mean() <= 1.5


@pytest.mark.parametrize("name", ["ffcv", "dali", "resident"])
def test_small_images_with_padding_are_exact_and_a_jpegs_are_within_a_level(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    split = store(
        [photo(32, 32, seed=i) if i % 2 else jpeg(photo(32, 32, seed=i)) for i in range(12)]
    )
    plan = random_plan(split, (32, 32), batch=10, draws=40, seed=3)
    for batch in plan.batches:
        batch.boxes_B4[:, :2] = np.random.default_rng(0).integers(-4, 5, (len(batch.ids_B), 2))
        batch.boxes_B4[:, 2:] = 32
    expected = pixels(list(make("reference", split).run(plan)))
    assert (expected[:, 0] == 0).all((1, 2)).any()  # some are padded
    difference = pixels(list(make(name, split).run(plan))).int() - expected
    raw = torch.from_numpy(np.concatenate([batch.ids_B for batch in plan.batches]) % 2 == 1)
    assert not difference[raw].any()
    # A JPEG's colours are rounded once by the own decoder, and at every step by libjpeg.
    assert difference.abs().max() <= (0 if name == "dali" else 1)


@pytest.mark.parametrize("out_hw", [(24, 24), (40, 36)])
def test_resident_resizes_as_the_reference_does(
    make: Callable[..., Engine], store: Store, out_hw: tuple[int, int]
) -> None:
    split = store([photo(32, 32, seed=i) for i in range(12)])
    plan = random_plan(split, out_hw, batch=10, draws=40, seed=3)
    expected = pixels(list(make("reference", split).run(plan))).float()
    found = pixels(list(make("resident", split).run(plan))).float()
    assert (found - expected).abs().max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_the_same_bits_for_any_thread_count_and_again(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    samples: list[bytes | np.ndarray] = [photo(40, 40, seed=i) for i in range(10)]
    split = store(samples if name == "resident" else photos(10))
    plan = random_plan(split, (32, 32), batch=5, draws=30, seed=4)
    one, three = make(name, split, threads=1), make(name, split, threads=3)
    first = pixels(list(one.run(plan)))
    assert torch.equal(first, pixels(list(three.run(plan))))
    assert torch.equal(first, pixels(list(one.run(plan))))


@pytest.mark.parametrize("name", DECODING)
@pytest.mark.parametrize("where", ["inside", "header"])
def test_a_corrupt_sample_raises_and_names_it(
    make: Callable[..., Engine], store: Store, name: str, where: str
) -> None:
    split = store(photos(8))
    plan = random_plan(split, (32, 32), batch=4, draws=8, seed=5)
    at = 0 if where == "header" else int(split.sizes_N[5]) // 2
    split.overwrite(5, at, b"\x5a\xa5\x5a\xa5")
    with pytest.raises(CorruptSample, match=r"part-00000.beton: sample 5: "):
        list(make(name, split).run(plan))


@pytest.mark.parametrize("name", DECODING)
def test_a_corrupt_raw_sample_is_noticed_too(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    split = store(photos(6))
    plan = random_plan(split, (32, 32), batch=3, draws=6, seed=5)
    assert split.modes_N[2] == 1
    split.overwrite(2, 100, b"\x00\xff\x00\xff")
    with pytest.raises(CorruptSample, match=r"sample 2: .*checksum"):
        list(make(name, split).run(plan))


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_never_touched_after_it_was_handed_out(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    split = store([photo(32, 32, seed=i) for i in range(30)])
    plan = random_plan(split, (24, 24), batch=5, draws=120, seed=6)
    engine = make(name, split)
    kept, copies = [], []
    for number, batch in enumerate(engine.run(plan)):
        if number % 3 == 0:
            # A view, not the tensor: the memory must outlive the batch itself.
            kept.append(batch.images_BHWC[1:, :, 3:])
            copies.append(batch.images_BHWC.clone()[1:, :, 3:])
        else:
            batch.images_BHWC.fill_(0) if name != "synthetic" else None
        del batch
    list(engine.run(plan))
    for view, copy in zip(kept, copies, strict=True):
        assert torch.equal(view, copy)
    if name != "synthetic":
        assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize("name", ALL)
def test_nothing_leaks_over_twenty_epochs(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    split = store([photo(32, 32, seed=i) for i in range(20)])
    plan = random_plan(split, (64, 64), batch=10, draws=60, seed=7)
    engine = make(name, split)
    process = psutil.Process()

    def epoch(number: int) -> None:
        batches = engine.run(plan)
        for step, _ in enumerate(batches):
            if number % 2 and step == 1:
                break  # left early
        batches.close()

    for number in range(4):
        epoch(number)
    gc.collect()
    threads, files, rss = process.num_threads(), process.num_fds(), process.memory_info().rss
    for number in range(20):
        epoch(number)
    gc.collect()
    assert process.num_threads() <= threads
    assert process.num_fds() <= files
    assert process.memory_info().rss - rss < 8e6


def test_closing_ends_the_threads(make: Callable[..., Engine], store: Store) -> None:
    before = psutil.Process().num_threads()
    split = store(photos(6))
    engine = make("ffcv", split, threads=3)
    batches = engine.run(random_plan(split, (16, 16), batch=3, draws=12, seed=8))
    next(batches)
    assert psutil.Process().num_threads() > before
    batches.close()
    engine.close()
    engine.close()
    # A joined thread may be seen by the system for a moment longer.
    for _ in range(500):
        if psutil.Process().num_threads() <= before:
            return
        time.sleep(0.01)
    pytest.fail(f"{psutil.Process().num_threads()} threads, {before} before")


@pytest.mark.parametrize("name", ["ffcv", "dali"])
def test_two_engines_and_two_runs_live_side_by_side(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    split = store(photos(10))
    plans = [random_plan(split, (32, 32), batch=4, draws=24, seed=seed) for seed in (9, 10)]
    one, two = make(name, split), make(name, split)
    apart = [pixels(list(one.run(plan))) for plan in plans]
    for pair in ((one, two), (one, one)):
        together: list[list[Batch]] = [[], []]
        runs = [engine.run(plan) for engine, plan in zip(pair, plans, strict=True)]
        for batches in zip(*runs, strict=True):
            for kept, batch in zip(together, batches, strict=True):
                kept.append(batch)
        for kept, expected in zip(together, apart, strict=True):
            assert torch.equal(pixels(kept), expected)
    assert not torch.equal(*apart)


@pytest.mark.parametrize("name", ALL)
def test_torchs_thread_count_is_left_alone(
    make: Callable[..., Engine], store: Store, name: str
) -> None:
    before = torch.get_num_threads()
    split = store([photo(16, 16, seed=i) for i in range(4)])
    list(make(name, split, threads=1).run(random_plan(split, (8, 8), batch=2, draws=4, seed=1)))
    assert torch.get_num_threads() == before


def test_an_exception_in_the_receiver_leaves_the_engine_usable(
    make: Callable[..., Engine], store: Store
) -> None:
    split = store(photos(9))
    plan = random_plan(split, (32, 32), batch=3, draws=30, seed=11)
    engine = make("ffcv", split)
    expected = pixels(list(engine.run(plan)))
    batches = engine.run(plan)
    next(batches)
    with pytest.raises(KeyboardInterrupt):
        batches.throw(KeyboardInterrupt)
    assert torch.equal(pixels(list(engine.run(plan))), expected)


@pytest.mark.parametrize("name", DECODING)
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("sizes_N", 2**63 - 1, "past the end of the file"),
        ("sizes_N", 1 << 40, "past the end of the file"),
        ("sizes_N", 0, "past the end of the file"),
        ("sizes_N", -1, "past the end of the file"),
        ("offsets_N", -1, "past the end of the file"),
        ("offsets_N", 2**63 - 1, "past the end of the file"),
        ("offsets_N", -(2**63), "past the end of the file"),
        ("parts_N", 1, "past the end of the file"),
        ("parts_N", -1, "past the end of the file"),
        ("modes_N", 7, "not the pixels that the index says"),
        ("modes_N", 1, "not the pixels that the index says"),
    ],
)
def test_a_row_of_the_table_that_cannot_be_is_named_and_not_followed(
    make: Callable[..., Engine], store: Store, name: str, column: str, value: int, said: str
) -> None:
    split = store([jpeg(photo(40, 40, seed=i)) for i in range(4)])
    getattr(split, column)[3] = value
    plan = random_plan(split, (16, 16), batch=4, draws=8, seed=1)
    with pytest.raises(CorruptSample, match=rf"sample 3: its bytes .*{said}"):
        list(make(name, split).run(plan))


def test_resident_refuses_images_of_several_sizes(store: Store) -> None:
    with pytest.raises(UserError, match="one size"):
        engines.make("resident", store(photos(3)), device=CPU, threads=1)


def test_resident_says_how_much_memory_it_lacks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    split = store([photo(8, 8, seed=1), photo(8, 8, seed=2)])
    monkeypatch.setattr(resident, "one_size", lambda split: (20_000, 10_000))
    monkeypatch.setattr(ffcv, "available", lambda: False)
    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(UserError, match=r"cpu has no 1\.2 GB free for the decoded split"):
        engines.make("resident", split, device=CPU, threads=1)


def test_an_unknown_engine_names_the_choices(store: Store) -> None:
    with pytest.raises(UserError, match="did you mean 'ffcv'"):
        engines.make("fcv", store([photo(8, 8, seed=1)]), device=CPU, threads=1)


def test_importing_the_engines_loads_neither_ffcv_nor_dali() -> None:
    import subprocess
    import sys

    code = (
        "import sys, fasttail.engines.ffcv, fasttail.engines.dali, fasttail.engines.auto\n"
        "assert not {'ffcv', 'nvidia.dali'} & set(sys.modules), 'loaded'"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=dict(os.environ))
