"""A run's page: what is on it, what harmless names do, and what is said of what is missing."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn.calibration import calibration_curve

from fasttail import report, stages
from fasttail.classify.scoring import Answers
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.report import heads, log
from fasttail.report.collect import collect

FIGURES = 8


class Page(HTMLParser):
    """A page's tags with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run_dir, tmp_path / "run")


def test_a_training_ends_with_the_page_of_its_run(run_dir: Path) -> None:
    page = Page(run_dir / report.PAGE)
    assert page.count("svg") == FIGURES
    assert page.count("img") >= 5
    rows = json.loads((run_dir / "metrics.json").read_text())["rows"]
    assert {row["method"] for row in rows} >= {"joint", "crt", "lws", "tau", "ncm"}
    for row in rows:
        assert row["method"] in page.text
        assert f"{row['all_macro']:.1f}" in page.text
    assert "chosen on val" in page.text
    assert "chosen on this split, val" in page.text
    for file in ("run.json", "stage2.json"):
        provenance = json.loads((run_dir / file).read_text())["provenance"]
        assert provenance["started"] in page.text
        assert f"torch {provenance['packages']['torch']}" in page.text


def test_a_page_needs_nothing_beside_it_and_runs_no_script(run_dir: Path) -> None:
    page = Page(run_dir / report.PAGE)
    assert page.count("script") == page.count("iframe") == 0
    assert [tag for tag, _ in page.tags].count("link") == 1, "an icon, in the page itself"
    for _tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)", (run_dir / report.PAGE).read_text(encoding="utf-8"))


def test_names_that_others_chose_are_shown_as_they_are(run_dir: Path, hostile_shards: Path) -> None:
    page = Page(run_dir / report.PAGE)
    for name in json.loads((run_dir / "run.json").read_text())["class_names"]:
        assert name in page.text
    assert str(run_dir) in page.text
    assert str(hostile_shards) in page.text
    assert "<b>noise</b>" in page.text
    assert page.count("i") == 0, "the run's name is no tag"


def test_figures_say_the_numbers_of_per_class_csv(run_dir: Path) -> None:
    page = Page(run_dir / report.PAGE)
    with (run_dir / "per_class.csv").open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == "test"]
    assert len(lines) == 5
    for line in lines:
        for method in ("joint", "crt", "tau"):
            accuracy = float(line[method])
            told = f"{line['name']} ({line['train_images']} training images): {accuracy:.1f} %"
            assert f"{method}, {told}" in page.text


def test_the_tau_of_the_curve_is_the_one_that_was_chosen(run_dir: Path) -> None:
    view = collect(run_dir)
    rows = {row["split"]: row for row in view.rows if row["method"] == "tau"}
    assert view.tau is not None
    found = view.tau.sweep
    assert re.match(rf"tau {found.chosen:g}\b", rows["val"]["note"])
    assert view.tau.chosen_on == "val"
    k = int(np.flatnonzero(found.grid_T == found.chosen)[0])
    for split, row in rows.items():
        for name in ("many", "medium", "few", "all_macro", "all_micro"):
            expected = np.nan if row[name] is None else row[name]
            got = found.accuracy_T[split][name][k]
            assert got == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert found.accuracy_T["val"]["all_macro"].argmax() == k
    text = (run_dir / "tau_sweep.csv").read_text()
    assert text.startswith("split,tau,many,medium,few,all_macro,all_micro,chosen")
    assert f"tau {found.chosen:.4g}: few " in Page(run_dir / report.PAGE).text


def test_a_damaged_tau_sweep_is_said_and_the_rest_of_the_page_is_there(copy: Path) -> None:
    (copy / "tau_sweep.csv").write_text("split,tau\nval,x\n")
    view = collect(copy)
    assert view.tau is None
    assert view.reliability
    assert [line for line in view.missing if "tau_sweep.csv: damaged" in line]


def test_norms_are_those_of_the_weights(run_dir: Path) -> None:
    view = collect(run_dir)
    weight_CD = load_file(run_dir / "heads" / "lws.safetensors")["weight"].numpy()
    np.testing.assert_allclose(view.norms["lws"], np.sqrt((weight_CD**2).sum(1)), rtol=1e-6)
    assert set(view.norms) > {"joint", "tau", "crt"}
    assert "ncm" not in view.norms, "its weights are class means"


def test_reliability_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    confidence_N = generator.uniform(0.1, 1, 500).astype(np.float32)
    right_N = generator.random(500) < confidence_N**2
    labels_N = generator.integers(0, 9, 500)
    predicted_N = np.where(right_N, labels_N, (labels_N + 1) % 9)
    found = heads.reliability(Answers(predicted_N, confidence_N), labels_N)
    accuracy_K, confidence_K = calibration_curve(right_N, confidence_N, n_bins=15)
    np.testing.assert_allclose(found.accuracy_K, 100 * accuracy_K, rtol=1e-5)
    np.testing.assert_allclose(found.confidence_K, 100 * confidence_K, rtol=1e-5)
    assert found.count_K.sum() == 500
    gaps_K = np.abs(accuracy_K - confidence_K)
    assert found.ece == pytest.approx(100 * (gaps_K * found.count_K).sum() / 500, rel=1e-5)


@pytest.mark.parametrize(
    ("gone", "says", "figures"),
    [
        (["heads", "stage2.json"], "fasttail train --stage cls --run", 7),
        (["features"], "fasttail eval --run", FIGURES - 1),
        (["per_class.csv"], "writes per_class.csv", FIGURES - 1),
        (["log.jsonl"], "log.jsonl has no line", FIGURES - 3),
        (["metrics.json", "per_class.csv"], "nothing is measured yet", FIGURES - 2),
        (
            ["model.safetensors", "metrics.json", "per_class.csv", "stage2.json"],
            "stage 1 is not finished",
            4,
        ),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    copy: Path, gone: list[str], says: str, figures: int
) -> None:
    for name in gone:
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(report.write(copy))
    assert says in page.text
    assert page.count("svg") == figures


def test_a_run_whose_shards_are_gone_keeps_its_table_and_its_accuracies(copy: Path) -> None:
    about = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**about, "shards": str(copy / "nowhere")}))
    page = Page(report.write(copy))
    assert f"{copy / 'nowhere'} holds no shards" in page.text
    assert page.count("svg") == 5, "distribution and accuracies by class, and the training's three"
    assert page.count("img") == 0
    assert page.count("table") == 1


def test_a_damaged_picture_is_said_and_the_page_goes_on(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fasttail.shards import Split

    monkeypatch.setattr(Split, "bytes", lambda self, i: np.zeros(9, np.uint8))
    page = Page(report.write(copy))
    assert "not readable: UnidentifiedImageError" in page.text
    assert page.count("img") == 0
    assert page.count("svg") == FIGURES


def test_a_head_with_a_backbone_of_its_own_is_judged_by_its_own_features(copy: Path) -> None:
    before = collect(copy)
    settings = ("classify.crt.epochs=1", "compute.report=false")
    options = stages.TrainOptions("cls", run=copy, method="crt-last-block", settings=settings)
    stages.train(options, Reporter(quiet=True))
    view = collect(copy)
    row = next(
        row for row in view.rows if row["method"] == "crt-last-block" and row["split"] == "test"
    )
    assert view.reliability["crt-last-block"].ece == pytest.approx(row["ece"])
    assert view.reliability["crt"].ece == before.reliability["crt"].ece
    assert not heads.load(view.run)[0].backbone
    own = next(head for head in heads.load(view.run) if head.method == "crt-last-block")
    assert own.backbone


def test_the_best_of_a_split_is_marked_and_of_ece_the_lowest(run_dir: Path) -> None:
    text = (run_dir / report.PAGE).read_text(encoding="utf-8")
    table = text[text.index('id="results"') :]
    header = re.findall(r"<th[^>]*>([^<]*)</th>", table)
    lines = [re.findall(r"<td([^>]*)>([^<]*)</td>", line) for line in table.split("<tr>")[2:]]
    for column, best in (("all", max), ("ECE", min)):
        k = header.index(column)
        test = [line[k] for line in lines if len(line) > k and line[2][1] == "test"]
        numbers = [float(value) for _, value in test if value != "–"]
        marked = {float(value) for attributes, value in test if "best" in attributes}
        assert len(numbers) >= 4
        assert marked == {best(numbers)}


def test_several_runs_stand_side_by_side_with_the_same_axes(copy: Path, run_dir: Path) -> None:
    lines = [json.loads(line) for line in (copy / "log.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "train":
            line["loss"] *= 10
    (copy / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = report.write_all([run_dir, copy], copy / "both.html")
    page = Page(out)
    assert page.count("svg") == 2 * FIGURES
    text = out.read_text(encoding="utf-8")
    pictures = re.findall(r'<svg[^>]*aria-label="Loss and learning rate:.*?</svg>', text, re.S)
    ticks = [re.findall(r">([\d.]+)</text>", picture) for picture in pictures]
    assert len(ticks) == 2
    assert ticks[0] == ticks[1]
    assert pictures[0] != pictures[1]


def test_a_page_that_cannot_be_drawn_costs_a_line_and_not_the_training(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(run_dir: Path) -> Path:
        raise ZeroDivisionError("no\nreason")

    monkeypatch.setattr(report, "write", broken)
    report.write_at_end(copy, Reporter())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no report: ZeroDivisionError" in said


def test_a_machine_without_the_packages_is_told_which(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install jinja2 matplotlib"):
        report.write(run_dir)
    report.write_at_end(run_dir, Reporter())
    assert capsys.readouterr().err.startswith("no report: a report needs jinja2 and matplotlib")


def test_no_run_is_a_mistake_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here"):
        report.write(tmp_path)


def test_a_page_that_cannot_be_written_is_a_mistake_in_one_line(run_dir: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        report.write_all([run_dir], run_dir / "run.json" / "report.html")


def test_what_was_done_again_after_a_kill_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"

    def line(kind: str, **values: float) -> str:
        return json.dumps({"time": 0, "kind": kind, **values})

    steps = [(1, 0, 5.0), (3, 0, 4.0), (5, 1, 3.0), (3, 0, 4.5), (5, 1, 3.5), (7, 1, 2.0)]
    lines = [
        line("start"),
        *(line("train", global_step=s, epoch=e, loss=v, lr=0.1) for s, e, v in steps),
        line("val", epoch=1, all_micro=50.0, all_macro=40.0),
        '{"kind": "train", "global_st',
    ]
    path.write_text("\n".join(lines))
    found = log.read(path)
    assert found.train["loss"].tolist() == [5.0, 4.5, 3.5, 2.0]
    assert found.epoch_T.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert np.isnan(found.train["images_per_s"]).all()
    assert found.val_epoch_V.tolist() == [2]
    assert len(found.starts) == 1
    assert not log.read(tmp_path / "none").epoch_T.size


def test_a_long_curve_is_averaged(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = (
        {"kind": "train", "global_step": k, "epoch": k // 100, "loss": float(k)}
        for k in range(2000)
    )
    path.write_text("\n".join(map(json.dumps, rows)))
    found = log.read(path)
    assert len(found.epoch_T) == log.MOST_POINTS
    assert found.train["loss"].mean() == pytest.approx(1999 / 2)


def test_several_runs_have_a_table_of_heads_by_runs_with_the_best_marked(
    run_dir: Path, copy: Path, tmp_path: Path
) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    for row in metrics["rows"]:
        row["all_micro"] = 99.25 if (row["method"], row["split"]) == ("tau", "test") else 0.5
    (copy / "metrics.json").write_text(json.dumps(metrics))
    other = shutil.copytree(copy, tmp_path / "other")
    for row in metrics["rows"]:
        row["all_micro"] = 50.0
    (other / "metrics.json").write_text(json.dumps(metrics))
    html = report.write_all([other, copy], tmp_path / "both.html").read_text(encoding="utf-8")
    table = re.search(r"<caption>Accuracy over images, test</caption>.*?</table>", html, re.DOTALL)
    assert table is not None
    lines = {
        line[0]: line[1:]
        for line in re.findall(
            r'<tr><td class="name">([^<]+)</td>\s*<td class="(number(?: best)?)">([^<]+)</td>'
            r'\s*<td class="(number(?: best)?)">([^<]+)</td>',
            table[0],
        )
    }
    here = {row["method"]: row["all_micro"] for row in rows_of(other, "test")}
    assert set(lines) == set(here)
    assert {name: line[1] for name, line in lines.items()} == {
        name: f"{accuracy:.1f}" for name, accuracy in here.items()
    }
    assert [name for name, line in lines.items() if "best" in line[2]] == ["tau"]
    assert lines["tau"][3] == "99.2"
    assert not any("best" in line[0] for line in lines.values())


def test_one_run_has_no_table_of_runs(run_dir: Path) -> None:
    assert 'class="matrix"' not in (run_dir / report.PAGE).read_text(encoding="utf-8")


def rows_of(run: Path, split: str) -> list[dict]:
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    return [row for row in rows if row["split"] == split]
