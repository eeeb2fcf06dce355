import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit
from numba.experimental import jitclass

from fasttail.errors import UserError
from fasttail.plan import EvalEpoch, TrainEpoch, View
from fasttail.plan import orders as plan_orders
from fasttail.plan.contract import BatchPlan
from fasttail.plan.epoch import DRAWS
from fasttail.plan.samplers import SAMPLERS, schedule

VIEW = View.random_resized_crop(224, (0.08, 1.0), (3 / 4, 4 / 3), 0.5, (0.4, 0.4, 0.4, 0.1))
CENTER = View.center(224, 256)


def train(split, sampler="class", **changes) -> TrainEpoch:
    options = {"view": VIEW, "seed": 0, "epoch": 0, "batch_size": 48, **changes}
    return TrainEpoch(split, p_C=SAMPLERS[sampler](split.counts_C, 0.5), **options)


def arrays(batch: BatchPlan) -> list[np.ndarray]:
    jitter = batch.jitter_B
    inner = [jitter.factors_B4, jitter.order_B4] if jitter else []
    return [batch.ids_B, batch.labels_B, batch.boxes_B4, batch.flips_B, *inner]


def same(a: BatchPlan, b: BatchPlan) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


def joined(batches: list[BatchPlan]) -> list[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*map(arrays, batches), strict=True)]


@pytest.mark.parametrize("draws", DRAWS)
def test_global_batches_are_the_same_on_1_2_and_4_ranks(draws, long_tail):
    alone = train(long_tail, draws=draws)
    for world_size in (2, 4):
        ranks = [
            train(long_tail, rank=r, world_size=world_size, draws=draws) for r in range(world_size)
        ]
        assert {rank.steps for rank in ranks} == {alone.steps}
        for step in (0, 1, alone.steps - 1):
            whole = arrays(alone.batch(step))
            shares = joined([rank.batch(step) for rank in ranks])
            assert all(np.array_equal(a, b) for a, b in zip(whole, shares, strict=True))


@pytest.mark.parametrize("draws", DRAWS)
def test_batches_are_the_same_for_any_number_of_threads_and_in_any_order(draws, long_tail):
    steps = range(40)
    plan = train(long_tail, draws=draws)
    one_by_one = [plan.batch(step) for step in steps]
    backwards = train(long_tail, draws=draws)
    assert all(same(backwards.batch(step), one_by_one[step]) for step in reversed(steps))
    for threads in range(2, 9):
        shared = train(long_tail, draws=draws)
        with ThreadPoolExecutor(threads) as pool:
            assert all(map(same, pool.map(shared.batch, steps), one_by_one))
    assert not same(one_by_one[0], one_by_one[1])


@pytest.mark.parametrize("draws", DRAWS)
def test_seed_and_epoch_each_make_another_epoch_and_do_not_add_up(draws, long_tail):
    batches = [
        train(long_tail, seed=seed, epoch=epoch, draws=draws).batch(0)
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (0, 2))
    ]
    for i, a in enumerate(batches):
        for b in batches[:i]:
            alike = [(x == y).mean() for x, y in zip(arrays(a), arrays(b), strict=True)]
            assert alike[0] < 0.2  # ids
            assert alike[2] < 0.2  # boxes


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_labels_are_those_of_the_images_and_boxes_fit_them(draws, sampler, long_tail):
    plan = train(long_tail, sampler, draws=draws)
    assert plan.steps == len(long_tail.labels_N) // 48
    ids_B, labels_B, boxes_B4, *_ = joined([plan.batch(step) for step in range(plan.steps)])
    assert (long_tail.labels_N[ids_B] == labels_B).all()
    assert (boxes_B4[:, :2] >= 0).all()
    assert (boxes_B4[:, 0] + boxes_B4[:, 2] <= long_tail.heights_N[ids_B]).all()
    assert (boxes_B4[:, 1] + boxes_B4[:, 3] <= long_tail.widths_N[ids_B]).all()


def test_dtypes_and_shapes_are_those_of_the_contract(long_tail):
    batch = train(long_tail).batch(0)
    assert [f.name for f in fields(batch)][-1] == "jitter_B"
    assert [(str(a.dtype), a.shape) for a in arrays(batch)] == [
        ("int64", (48,)),
        ("int64", (48,)),
        ("int32", (48, 4)),
        ("bool", (48,)),
        ("float32", (48, 4)),
        ("uint8", (48, 4)),
    ]
    assert train(long_tail).out_hw == (224, 224)
    assert train(long_tail, world_size=4).max_batch == 12


def test_memory_mapped_and_read_only_tables_give_the_same_plan(long_tail, tmp_path):
    mapped = {}
    for name in ("indptr_C1", "samples_N", "labels_N", "heights_N", "widths_N"):
        np.save(tmp_path / f"{name}.npy", getattr(long_tail, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    split = replace(long_tail, **mapped)
    assert isinstance(split.samples_N, np.memmap)
    assert same(train(split).batch(3), train(long_tail).batch(3))


# The order of a run must never drift: it is what makes a resumed run the same run. If one of these
# changes, every run's order does: say so in the changelog, and change the literal.
PINNED = {
    "quota": [16890, 10069, 16670, 20238, 15741, 12945, 20922, 6491],
    "iid": [19723, 9529, 1492, 18046, 16736, 17602, 128, 8856],
    "shuffled": [17378, 8320, 18312, 6211, 20406, 6429, 2596, 11221],
    "cycled": [12072, 13299, 18273, 1479, 7478, 20088, 15987, 2017],
    "multinomial": [14861, 615, 16015, 21361, 13557, 2157, 5353, 1208],
}


@pytest.mark.parametrize("draws", DRAWS)
def test_the_first_images_of_an_epoch_are_pinned(draws, long_tail):
    plan = train(long_tail, seed=7, epoch=3, draws=draws)
    assert plan.batch(0).ids_B[:8].tolist() == PINNED[draws]


def test_the_first_boxes_flips_and_jitters_are_pinned(long_tail):
    batch = train(long_tail, seed=7, epoch=3).batch(0)
    boxes = [[121, 1, 191, 167], [160, 8, 280, 219], [62, 3, 211, 168]]
    assert batch.boxes_B4[:3].tolist() == boxes
    assert batch.flips_B[:8].tolist() == [False, True, False, False, True, False, True, False]
    assert batch.jitter_B is not None
    assert batch.jitter_B.order_B4[:2].tolist() == [[2, 0, 1, 3], [2, 3, 0, 1]]
    factors = [1.088226556777954, 1.24268639087677, 1.0690464973449707, -0.0557064488530159]
    assert batch.jitter_B.factors_B4[0].tolist() == factors


def test_a_schedule_makes_up_for_rounding_while_it_changes(long_tail):
    p = schedule("progressive", long_tail.counts_C, epochs=12)
    seen_C, owed_C = np.zeros(200), np.zeros(200)
    for epoch in range(12):
        plan = TrainEpoch(long_tail, p_C=p, view=CENTER, seed=0, epoch=epoch, batch_size=100)
        labels_B = np.concatenate([plan.batch(step).labels_B for step in range(plan.steps)])
        seen_C += np.bincount(labels_B, minlength=200)
        owed_C += len(labels_B) * p(epoch)
        assert np.abs(seen_C - owed_C).max() < 1


def test_one_class_of_one_image_is_a_data_set(make_split):
    plan = train(make_split([1]), batch_size=1, sampler="instance")
    assert plan.steps == 1
    assert plan.batch(0).ids_B.tolist() == [0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 50, "world_size": 4}, "take a multiple of 4, 48 or 52"),
        ({"batch_size": 2, "world_size": 4}, "take a multiple of 4, 4 or 8"),
        ({"batch_size": 0}, "give the images of a batch"),
        ({"batch_size": 10**6}, r"more than the split's \d+ images: take"),
        ({"rank": 2, "world_size": 2}, "must be 0 to 1"),
        ({"draws": "iids"}, "did you mean 'iid'"),
    ],
)
def test_a_users_mistake_is_told_in_one_line(changes, said, long_tail):
    with pytest.raises(UserError, match=said) as raised:
        train(long_tail, **changes)
    assert "\n" not in str(raised.value)


def test_an_empty_class_is_named(make_split):
    split = make_split([5, 0, 3, 0])
    with pytest.raises(UserError, match="2 of 4 classes \\('class 1', 'class 3'\\)"):
        TrainEpoch(
            split, p_C=np.full(4, 0.25), view=VIEW, seed=0, epoch=0, batch_size=4, draws="quota"
        )


def test_steps_that_are_not_there_are_refused(long_tail):
    plan = train(long_tail)
    for step in (-1, plan.steps):
        with pytest.raises(IndexError):
            plan.batch(step)
    with pytest.raises(IndexError):
        EvalEpoch(long_tail, view=CENTER, batch_size=10).batch(10**6)


@pytest.mark.parametrize("size", [1, 2, 5, 64, 65, 70, 127, 128])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_evaluation_has_every_sample_once_over_all_ranks(size, world_size, batch_size, make_split):
    split = make_split([size])
    ranks = [
        EvalEpoch(split, view=CENTER, batch_size=batch_size, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    batches = [rank.batch(step) for rank in ranks for step in range(rank.steps)]
    ids = np.concatenate([batch.ids_B for batch in batches])
    assert np.sort(ids).tolist() == list(range(size))
    assert all(len(b.ids_B) > 0 for b in batches)
    for rank in ranks:
        assert all(len(rank.batch(s).ids_B) <= rank.max_batch for s in range(rank.steps))
    alone = EvalEpoch(split, view=CENTER, batch_size=batch_size)
    assert alone.steps == -(-size // batch_size)
    together = np.concatenate([rank.batch(0).ids_B for rank in ranks if rank.steps])
    assert (together == alone.batch(0).ids_B).all()


def test_evaluation_looks_at_the_centre_and_never_flips(long_tail):
    batch = EvalEpoch(long_tail, view=CENTER, batch_size=100).batch(2)
    assert (batch.ids_B == np.arange(200, 300)).all()
    assert (batch.labels_B == long_tail.labels_N[200:300]).all()
    assert not batch.flips_B.any()
    assert batch.jitter_B is None
    assert (batch.boxes_B4[:, 2] == batch.boxes_B4[:, 3]).all()


@jitclass([])
class InOrder:
    """Stands for a table whose samples lie class by class: place i holds sample i."""

    def __init__(self):
        pass

    def __getitem__(self, place):
        return place


def test_a_billion_samples_cost_their_batch_only(tmp_path):
    """Nothing that grows with the data set is read or made: the tables are sparse files of 8 GB, in
    which there is what the batch needs."""
    counts_C = np.full(1000, 1_000_000)
    size = int(counts_C.sum())

    def sparse(name: str, dtype: type) -> np.ndarray:
        with (tmp_path / name).open("wb") as file:
            file.truncate(size * np.dtype(dtype).itemsize)
        return np.memmap(tmp_path / name, dtype=dtype, mode="r+", shape=(size,))

    columns = {"samples_N": np.int64, "labels_N": np.int64, "heights_N": np.int32}
    table = {name: sparse(name, dtype) for name, dtype in columns.items()}
    split = SimpleNamespace(
        indptr_C1=np.concatenate([[0], np.cumsum(counts_C)]),
        widths_N=table["heights_N"],
        class_names=tuple(map(str, range(1000))),
        counts_C=counts_C,
        **table,
    )
    plan = train(split, batch_size=512, epoch=2)
    assert plan.steps == size // 512
    draws, last = plan._order._order, plan.steps - 1
    ids_B, labels_B = np.empty((2, 512), np.int64)
    njit(plan_orders.quota_draws.py_func, error_model="numpy")(
        last * 512, draws._key, draws._lookup.sums_C1, draws._lookup.guide_G, draws._lookup.shift,
        draws._rows_C, InOrder(), ids_B, labels_B,
    )  # fmt: skip
    for name, values_B in (("samples_N", ids_B), ("labels_N", labels_B), ("heights_N", 100)):
        table[name][ids_B] = values_B
    batch = plan.batch(last)
    assert np.array_equal(batch.ids_B, ids_B)
    assert len(np.unique(batch.labels_B)) > 300
    blocks = sum((tmp_path / name).stat().st_blocks for name in columns)
    assert blocks * 512 < 10_000_000


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("value", [-1, 2**40, -(2**63), "another class's"])
def test_a_sample_that_is_not_of_the_class_it_is_drawn_for_is_refused(draws, value, long_tail):
    samples_N = long_tail.samples_N.copy()
    samples_N[:500] = samples_N[-1] if isinstance(value, str) else value  # the whole of class 0
    plan = train(replace(long_tail, samples_N=samples_N), draws=draws)
    with pytest.raises(UserError, match=r"table is damaged: sample -?\d+ stands under class 0 "):
        deque(map(plan.batch, range(plan.steps)), maxlen=0)


def advice(array) -> list[str]:
    """What the kernel was told of the map that an array lies in: "rr" is random reads."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= array.ctypes.data < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError("no such map")


def test_a_large_mapped_array_is_read_here_and_there_by_a_map_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_orders, "READ_AHEAD_FITS", 1000)
    np.arange(5000).tofile(tmp_path / "column")
    column = np.memmap(tmp_path / "column", np.int64, "r", 8 * 16)
    other = plan_orders.scattered(column)
    assert np.array_equal(other, column)
    assert other.ctypes.data != column.ctypes.data
    assert "rr" in advice(other)
    assert "rr" not in advice(column)
    small = np.memmap(tmp_path / "column", np.int64, "r", 0, (100,))
    assert plan_orders.scattered(small).ctypes.data == small.ctypes.data
