"""`Loader` as somebody uses it in a training loop of their own."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fasttail
from fasttail import Loader, engines, open_shards
from fasttail.engines import ffcv
from fasttail.errors import UserError
from fasttail.plan import View

ENGINE = "ffcv" if ffcv.available() else "reference"
CPU = torch.device("cpu")
Batches = list[tuple[torch.Tensor, ...]]


def make(folder: Path, split: str = "train", **changes) -> Loader:
    options = {"sampler": "sqrt", "batch_size": 8, "px": 24, "epochs": 3, "ids": True, "threads": 1}
    options |= {"device": "cpu", "engine": ENGINE, **changes}
    return Loader(folder, split, **options)


def same(found: Batches, expected: Batches) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a, b)
        for batch, other in zip(found, expected, strict=True)
        for a, b in zip(batch, other, strict=True)
    )


def test_images_are_normalised_and_channels_last_and_labels_those_of_the_ids(blob_shards: Path):
    opened = open_shards(blob_shards)
    mean, std = (np.array(values)[:, None, None] for values in (opened.meta.mean, opened.meta.std))
    with make(blob_shards) as ready, make(blob_shards, augment=False, ids=False) as raw:
        assert len(ready) == len(raw) == 78 // 8
        for (images, labels, ids), (pixels, same_labels) in zip(ready, raw, strict=True):
            assert pixels.dtype == torch.uint8
            assert images.shape == pixels.shape == (8, 3, 24, 24)
            for tensor in (images, pixels):
                assert tensor.is_contiguous(memory_format=torch.channels_last)
            expected = (pixels.double().numpy() / 255 - mean) / std
            assert np.abs(images.numpy() - expected).max() < 1e-5
            assert torch.equal(labels, same_labels)
            assert (opened.split("train").labels_N[ids] == labels.numpy()).all()


def test_each_iteration_is_the_next_epoch_unless_one_is_set(blob_shards: Path):
    with make(blob_shards) as loader:
        first, second = list(loader), list(loader)
        assert not same(first, second)
        assert loader.epoch == 2
        loader.set_epoch(1)
        assert same(list(loader), second)


def test_an_epoch_has_the_samplers_quotas(blob_shards: Path):
    with make(blob_shards, sampler="class") as loader:
        drawn = torch.cat([labels for _, labels, _ in loader]).bincount()
    assert drawn.max() - drawn.min() <= 1


def test_without_a_sampler_every_image_comes_once_in_order(blob_shards: Path):
    shares = []
    for rank in range(2):
        with make(blob_shards, "test", sampler=None, rank=rank, world_size=2) as loader:
            shares.append(list(loader))
            assert same(list(loader), shares[-1])
            assert loader.epoch == 2
    ids = [
        torch.cat(both).tolist() for both in zip(*([b[2] for b in s] for s in shares), strict=True)
    ]
    assert list(itertools.chain(*ids)) == list(range(40))


def test_global_batches_are_the_same_for_any_number_of_ranks(blob_shards: Path):
    with make(blob_shards) as alone:
        expected = list(alone)
    shares = []
    for rank in range(4):
        with make(blob_shards, rank=rank, world_size=4) as loader:
            shares.append(list(loader))
    together = [
        tuple(map(torch.cat, zip(*batches, strict=True))) for batches in zip(*shares, strict=True)
    ]
    assert same(together, expected)


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_a_state_goes_on_with_the_first_batch_that_was_not_handed_out(taken, blob_shards: Path):
    with make(blob_shards) as loader:
        loader.set_epoch(1)
        whole = list(loader)
        loader.set_epoch(1)
        with_rest = iter(loader)
        for _ in range(taken):
            next(with_rest)
        state = loader.state_dict()
    assert (state["epoch"], state["step"]) == (1, taken)
    with make(blob_shards) as again:
        again.load_state_dict(state)
        again.set_epoch(1)  # as loops do that set it for every epoch
        assert same(list(again), whole[taken:])
        assert again.state_dict()["epoch"] == 2
        assert again.state_dict()["step"] == 0


def test_a_state_survives_torch_save_without_pickled_code(blob_shards: Path, tmp_path: Path):
    with make(blob_shards) as loader:
        torch.save(loader.state_dict(), tmp_path / "state.pt")
        loader.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "val"}, "the state is of data"),
        ({"px": 16}, "the state is of view"),
        ({"batch_size": 4}, "the state is of batch_size 8, but this is of 4"),
    ],
)
def test_a_state_of_other_data_or_settings_is_refused(changes, said, blob_shards: Path):
    with make(blob_shards) as loader, make(blob_shards, **changes) as other:
        state = loader.state_dict()
        with pytest.raises(UserError, match=said):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"sampler": "sqr"}, "did you mean 'sqrt'"),
        ({"engine": "fcv"}, "did you mean 'ffcv'"),
        ({"batch_size": 6, "rank": 0, "world_size": 4}, "take a multiple of 4"),
        ({"batch_size": 79}, "more than the split's 78 images"),
        (
            {"augment": False, "view": View.random_crop(24, 2, 0.5, (0.4, 0.4, 0.4, 0.1))},
            "a view with jitter needs augment=True",
        ),
    ],
)
def test_a_users_mistake_is_told_when_the_loader_is_made(changes, said, blob_shards: Path):
    with pytest.raises(UserError, match=said):
        make(blob_shards, **changes)


def test_a_closed_loader_says_so_and_ends_the_iteration_that_was_open(blob_shards: Path):
    loader = make(blob_shards)
    batches = iter(loader)
    next(batches)
    loader.close()
    loader.close()
    assert next(batches, None) is None
    with pytest.raises(UserError, match="the loader is closed"):
        next(iter(loader))


def test_an_iteration_that_is_left_ends_at_once_and_the_next_one_is_whole(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
):
    ended = []

    class Watched:
        device = CPU

        def run(self, plan, start=0):
            try:
                yield from inner.run(plan, start)
            finally:
                ended.append(start)

        def close(self):
            inner.close()

    inner = engines.make(
        "reference", open_shards(blob_shards).split("train"), device=CPU, threads=1
    )
    monkeypatch.setitem(engines.ENGINES, "watched", lambda *_: Watched())
    with make(blob_shards, engine="watched") as loader:
        for _ in loader:
            break
        assert ended == [0]
        left = iter(loader)
        next(left)
        assert len(list(loader)) == len(loader)
        assert len(ended) == 3
        assert next(left, None) is None


PROGRAM = """
import sys
from fasttail import Loader
loader = Loader(sys.argv[1], "train", sampler="class", batch_size=8, px=24, engine=sys.argv[2],
                device="cpu", threads=2)
batches = iter(loader)
next(batches)
print("open", flush=True)
"""


@pytest.mark.parametrize("engine", [ENGINE, "resident"])
def test_a_program_may_end_with_an_open_iteration(engine, blob_shards: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(blob_shards), engine],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "open\n", "")


def test_ctrl_c_ends_a_program_that_iterates(blob_shards: Path):
    program = PROGRAM + "while True:\n    for _ in loader: pass\n"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(blob_shards), ENGINE],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


def test_fasttail_is_imported_without_torch_and_names_what_it_offers():
    program = "import fasttail, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False False\n"
    for name in fasttail.__all__:
        assert getattr(fasttail, name).__doc__
        assert name in dir(fasttail)
    with pytest.raises(AttributeError, match="no attribute 'Loder'"):
        fasttail.Loder  # noqa: B018
