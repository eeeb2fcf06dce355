import ast
import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import bench_library  # noqa: E402


def test_the_benchmark_measures_sampler_loader_and_import_and_counts_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "library.json"
    small = ("--labels", "20000", "--draws", "8", "--px", "32", "--rounds", "2", "--threads", "1")
    monkeypatch.setattr(sys, "argv", ["bench_library.py", *small, "--json", str(out)])
    bench_library.main()
    found = json.loads(out.read_text())
    assert set(found["ratios"]) == set(bench_library.TARGETS)
    assert all(ratio > 0 for ratio in found["ratios"].values())
    sampler_s, loader_s = found["runs"]["sampler_s"], found["runs"]["loader_s"]
    assert set(sampler_s) == {"fasttail", "torch"}
    assert set(loader_s) == {"loader", "engine"}
    assert all(len(s) == 2 and min(s) > 0 for s in (*sampler_s.values(), *loader_s.values()))
    assert set(found["conditions"]) >= {"command", "machine", "versions", "load_before"}


def test_whole_statements_are_counted(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text("import a  # fasttail\nx = a(  # fasttail\n    1,\n)\ny = 2\n")
    assert bench_library.marked_lines(example) == 4


@pytest.mark.parametrize(("name", "most"), [("ddp_loader", 6), ("sampler_only", 3)])
def test_few_lines_of_an_example_are_fasttails_and_all_that_name_it_are_marked(
    name: str, most: int
) -> None:
    path = bench_library.EXAMPLES / f"{name}.py"
    assert 0 < bench_library.marked_lines(path) <= most
    lines = path.read_text(encoding="utf-8").splitlines()
    tree = ast.parse("\n".join(lines))
    ours = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "fasttail"
        for alias in node.names
    }
    uses = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in ours]
    assert uses
    assert all(lines[number - 1].endswith(bench_library.MARK) for number in uses)
