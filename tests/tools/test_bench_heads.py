"""What tools/bench_heads.py measures: the gain is read on test, of the head that val chose."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fasttail import rundir
from fasttail.config import DEFAULTS

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import bench_heads


def test_the_gain_is_of_the_head_that_is_best_on_val(tmp_path: Path) -> None:
    run = rundir.create(
        tmp_path / "run",
        DEFAULTS,
        shards_dir=tmp_path,
        shards_digest="0",
        dataset="mine",
        class_names=("a", "b"),
    )
    on_split = {
        "val": {"linear": 90.0, "crt": 60.0, "tau": 55.0},
        "test": {"linear": 40.0, "crt": 50.0, "tau": 70.0},
    }
    zero = dict.fromkeys(("all_micro", "many", "medium", "few", "worst"), 0.0)
    run.add_rows(
        [
            {"method": method, "split": split, "protocol": "clean", "note": "", "images": 1}
            | zero
            | {"all_macro": macro}
            for split, macros in on_split.items()
            for method, macro in macros.items()
        ]
    )
    points, best, rows = bench_heads.gain(run.dir)
    assert (points, best) == (10.0, "crt"), "not tau, which test would have chosen"
    assert len(rows) == 3


def test_the_made_up_bank_has_imagenet_lts_numbers_and_a_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_heads, "DIM", 4)
    features_ND, labels_N = bench_heads.made_up()
    assert features_ND.shape == (115_846, 4)
    counts_C = np.bincount(labels_N)
    assert len(counts_C) == 1000
    assert counts_C.min() >= 5
    assert counts_C.max() > 100 * counts_C.min()
