"""The command line as a shell sees it: exit codes, one line on stderr, nothing left behind."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fasttail.cli import app

COMMANDS: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def fasttail(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fasttail", *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--stage", "rep"], "no shards in shards/"),
        (
            ["train", "--stage", "rep", "--dataset", "places-lt"],
            "fasttail convert --dataset places",
        ),
        (["train", "--stage", "rap"], "unknown stage 'rap' (did you mean 'rep'?)"),
        (["train", "--stage", "cls"], "no run in runs/"),
        (["train", "--stage", "cls", "--method", "ctr"], "did you mean 'crt'"),
        (["eval", "--run", "runs/none"], "no run here"),
        (["convert", "--dataset", "imagenet"], "did you mean 'imagenet-lt'"),
        (["convert", "--dataset", "folder", "--source", "missing"], "missing"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = fasttail(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("fasttail: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_names_every_command_and_needs_no_torch(tmp_path: Path) -> None:
    done = fasttail("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("convert", "train", "eval", "demo"):
        assert command in done.stdout
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, fasttail.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.strip() == "False"


def examples(epilog: str) -> list[str]:
    return epilog.split("\n\n")[1:]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name: str) -> None:
    epilog = COMMANDS[name].epilog
    assert epilog is not None
    assert epilog.startswith("Example")
    own = 0
    for example in examples(epilog):
        words = shlex.split(example)
        at = next(i for i, word in enumerate(words) if word in COMMANDS)
        assert words[at - 1] == "fasttail" or "fasttail.torchrun" in words[:at]
        command, *arguments = words[at:]
        COMMANDS[command].make_context(command, arguments)  # raises where an option is unknown
        own += command == name
    assert own


def at_80_columns(*arguments: str) -> str:
    shown = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "80"}, color=False)
    assert shown.exit_code == 0
    return shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_with_each_example_on_its_line(name: str) -> None:
    command = COMMANDS[name]
    lines = at_80_columns(name).splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.strip() for line in lines} >= set(examples(command.epilog or ""))
    assert command.help is not None
    first = command.help.split("\n\n")[0]
    assert "\n" not in first, "a summary of two lines is broken in the list of commands"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_is_taken_where_nothing_is_given(name: str) -> None:
    words = "".join(at_80_columns(name).replace("│", " ").split())
    for option in COMMANDS[name].params:
        if option.param_type_name != "option" or option.required or option.is_flag:
            continue
        default = option.default
        if isinstance(option.show_default, str):
            default = f"({option.show_default})"
        if default is None:
            assert option.name in ("settings", "budget", "model")
        else:
            assert "".join(f"[default: {default}]".split()) in words, option.name


def test_what_scripts_read_comes_as_json() -> None:
    with_json = {
        name
        for name, command in COMMANDS.items()
        if any("--json" in option.opts for option in command.params)
    }
    assert with_json >= {"convert", "index", "verify", "eval", "compare", "predict", "inspect"}


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    found = []
    for words in ("fasttail in", "fasttail verify --js"):
        env = {
            "_FASTTAIL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        code = "import sys; sys.argv[0] = 'fasttail'; from fasttail.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        found.append(done.stdout.split())
    assert found == [["index", "inspect"], ["--json"]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with shards/digits, and what converting them said where stderr is no terminal."""
    folder = tmp_path_factory.mktemp("digits")
    done = fasttail("convert", "--dataset", "digits", "--jobs", "1", cwd=folder)
    assert done.returncode == 0
    assert done.stdout == ""
    return folder, done.stderr


def on_terminal(*arguments: str, cwd: Path, **env: str) -> str:
    """What a command writes to a terminal."""
    own, theirs = pty.openpty()
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    with subprocess.Popen(
        [sys.executable, "-m", "fasttail", *arguments],
        cwd=cwd,
        env={**plain, "TERM": "xterm-256color", **env},
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
    ):
        os.close(theirs)
        pieces = []
        while True:
            try:
                piece = os.read(own, 1 << 16)
            except OSError:  # how Linux says that the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
    os.close(own)
    return b"".join(pieces).decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m|\x1b\[[0-9;]*38;")


def is_clean(text: str) -> bool:
    """Lines only: no escape codes, no carriage returns, no piece of a bar."""
    return not re.search("[\x1b\r\x08\u2501\u2578\u257a]", text)


def test_a_log_is_clean_where_it_is_no_terminal(digits: tuple[Path, str]) -> None:
    folder, log = digits
    assert is_clean(log)
    assert log.splitlines()[0].startswith("digits: 10 classes (0, 1, 2, 3, 4, 5, ...), 331 images")
    assert log.splitlines()[1] == "  largest class: 0 (120 images in train); smallest: 9 (2)"
    assert log.splitlines()[2] == "  train: 331 images, 1.0 MB"
    assert log.count("\n") == 8
    shown = on_terminal("verify", "shards/digits", cwd=folder)
    assert not is_clean(shown), "on a terminal there is a bar"
    assert COLOUR.search(shown)


def test_no_color_leaves_colours_out(digits: tuple[Path, str]) -> None:
    folder, _ = digits
    for arguments, env in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        shown = on_terminal(*arguments, "verify", "shards/digits", cwd=folder, **env)
        assert "is intact" in shown
        assert not COLOUR.search(shown)


def test_quiet_leaves_results_and_errors(digits: tuple[Path, str]) -> None:
    folder, _ = digits
    done = fasttail("-q", "verify", "shards/digits", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = fasttail("--quiet", "verify", "shards/digits", "--json", cwd=folder)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["whole"] is True
    assert found["samples"] == 871
    done = fasttail("-q", "verify", "shards/none", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_damage_is_exit_code_1_and_told_when_quiet(
    digits: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = digits
    copy = tmp_path / "shards"
    subprocess.run(["cp", "-r", folder / "shards", copy], check=True)
    part = copy / "digits" / "test-00000.beton"
    content = bytearray(part.read_bytes())
    content[-5000] ^= 255
    part.write_bytes(content)
    done = fasttail("-q", "verify", "shards/digits", "--json", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["whole"] is False
    assert found["problems"]
    assert done.stderr == f"shards/digits is damaged: {len(found['problems'])} findings\n"


def test_eval_prints_its_rows_as_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fasttail.config import TrainConfig
    from fasttail.console import Reporter
    from fasttail.rundir import Run
    from fasttail.stages.show import show
    from fasttail.world import World

    run = Run(tmp_path, TrainConfig(), tmp_path, "", "digits", ("0", "1"))
    rows = [
        {
            "method": "tau",
            "protocol": "clean",
            "split": "test",
            "note": "tau 0.7, chosen on val",
            "images": 7,
            "all_micro": 50.0,
            "all_macro": 48.5,
            "many": None,
            "medium": 60.0,
            "few": 37.0,
            "worst": 37.0,
        }
    ]
    show(rows, run, World(), Reporter(), as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "run": str(tmp_path),
        "split": "test",
        "rows": rows,
    }
    assert run.rows() == rows
