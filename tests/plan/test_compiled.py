import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fasttail.plan import compiled

SOURCE = """
from fasttail.plan.compiled import kernel
from {helper} import helper

@kernel
def answer(x):
    return helper(x) + 1
"""
HELPER = """
from fasttail.plan.compiled import inline

@inline
def helper(x):
    return x * {factor}
"""


@pytest.fixture(autouse=True)
def caches_in(tmp_path, monkeypatch):
    """Compiled code goes under the test's folder, and nothing is remembered between tests."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    compiled.cache_dir.cache_clear()
    compiled.source_digest.cache_clear()
    yield
    compiled.cache_dir.cache_clear()
    compiled.source_digest.cache_clear()


def load(folder: Path, factor: int, monkeypatch) -> ModuleType:
    """A package folder of two modules, one of which calls the other's function, as a new process
    would find it."""
    folder.mkdir(exist_ok=True)
    (folder / "called.py").write_text(HELPER.format(factor=factor))
    (folder / "caller.py").write_text(SOURCE.format(helper="called"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("called", None)
    spec = importlib.util.spec_from_file_location("caller", folder / "caller.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compiled.cache_dir.cache_clear()
    compiled.source_digest.cache_clear()
    return module


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.kernel"))


def hits(module: ModuleType) -> int:
    return sum(module.answer.stats.cache_hits.values())


def test_a_kernel_is_compiled_once_and_loaded_afterwards(tmp_path, monkeypatch):
    first = load(tmp_path / "package", 10, monkeypatch)
    assert first.answer(4) == 41
    assert hits(first) == 0
    files = kept(tmp_path)
    assert len(files) == 1
    second = load(tmp_path / "package", 10, monkeypatch)
    assert second.answer(4) == 41
    assert hits(second) == 1
    assert kept(tmp_path) == files


def test_a_change_in_a_function_that_a_kernel_calls_is_seen(tmp_path, monkeypatch):
    assert load(tmp_path / "package", 10, monkeypatch).answer(4) == 41
    changed = load(tmp_path / "package", 20, monkeypatch)
    assert changed.answer(4) == 81
    assert hits(changed) == 0
    assert len(kept(tmp_path)) == 2
    # and going back finds what was there
    back = load(tmp_path / "package", 10, monkeypatch)
    assert back.answer(4) == 41
    assert hits(back) == 1


def test_time_stamps_do_not_matter(tmp_path, monkeypatch):
    import os

    load(tmp_path / "package", 10, monkeypatch).answer(4)
    module = load(tmp_path / "package", 10, monkeypatch)
    for path in (tmp_path / "package").glob("*.py"):
        os.utime(path, (0, 0))
    assert module.answer(4) == 41
    assert hits(module) == 1


@pytest.mark.parametrize("damage", [b"", b"torn", b"\0" * 5000])
def test_a_damaged_file_counts_as_absent(tmp_path, monkeypatch, damage):
    load(tmp_path / "package", 10, monkeypatch).answer(4)
    (path,) = kept(tmp_path)
    path.write_bytes(damage)
    module = load(tmp_path / "package", 10, monkeypatch)
    assert module.answer(4) == 41
    assert hits(module) == 0
    assert path.read_bytes() != damage


def test_without_a_place_to_write_everything_works_uncached(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    module = load(tmp_path / "package", 10, monkeypatch)
    assert module.answer(4) == 41
    assert hits(module) == 0
    assert compiled.cache_dir(tmp_path / "package") is None


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    load(tmp_path / "package", 10, monkeypatch)
    folder = compiled.cache_dir(tmp_path / "package")
    assert folder is not None
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    compiled.cache_dir.cache_clear()
    assert compiled.cache_dir(tmp_path / "package") is None


def test_sources_that_cannot_be_read_are_not_cached(tmp_path):
    assert compiled.source_digest(tmp_path / "nothing here") is None
    assert compiled.cache_dir(tmp_path / "nothing here") is None


def test_the_plan_needs_no_torch_and_compiles_nothing_twice(tmp_path):
    """In new processes: the second one finds all that the first one compiled."""
    import subprocess

    code = (
        "import sys, numpy as np\n"
        "from fasttail.plan.permute import permutation\n"
        "from fasttail.plan.random import key\n"
        "out = np.empty(10, dtype=np.int64)\n"
        "permutation(10, key('x'), out)\n"
        "print(out.tolist(), sum(permutation.stats.cache_hits.values()), 'torch' in sys.modules)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = (run.stdout.strip() for run in runs)
    assert first.endswith("0 False")
    assert second.endswith("1 False")
    assert first.split("]")[0] == second.split("]")[0]
