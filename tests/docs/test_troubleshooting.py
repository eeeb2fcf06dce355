"""Every message that a user can get has an entry on the page."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
# What makes a message: the errors themselves, and the function that names choices.
ERRORS = {"UserError", "NotHere", "CorruptSample", "NonFiniteLoss"}
# Where messages are a place and another program's words: the page's last section is about them.
PASSED_ON = {
    "datasets/__init__.py",
    "engines/ffcv.py",
    "engines/reference.py",
    "models/torchvision_backbone.py",
    "plan/view.py",
    "recipes.py",
    "shards/command.py",
    "shards/format.py",
    "shards/onray.py",
    "shards/pool.py",
    "shards/reader.py",
    "shards/seek.py",
    "shards/tail.py",
}


def fragments(node: ast.AST) -> list[str]:
    """The constant pieces of a message, in their order; of a choice between two, both."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return [
                text
                for value in values
                if isinstance(value, ast.Constant)
                for text in fragments(value)
            ]
        case ast.BinOp(left=left, right=right):
            return fragments(left) + fragments(right)
        case ast.IfExp(body=body, orelse=orelse):
            return fragments(body) + fragments(orelse)
    return []


@dataclass(frozen=True)
class Message:
    """Where a message is made, and its constant pieces."""

    where: str
    pieces: tuple[str, ...]

    @property
    def longest(self) -> str:
        return max(self.pieces, key=len, default="")


def messages() -> list[Message]:
    """Every message in the package."""
    found = []
    for path in sorted((ROOT / "fasttail").rglob("*.py")):
        name = str(path.relative_to(ROOT / "fasttail"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            if node.func.id in ERRORS or (
                node.func.id == "ValueError" and name.startswith("config/")
            ):
                pieces = tuple(flat(text) for text in fragments(node.args[0]))
                found.append(Message(f"{name}:{node.lineno}", pieces))
    return found


def flat(text: str) -> str:
    """Without backticks, runs of blanks, and what hangs at the ends between two placeholders."""
    return re.sub(r"\s+", " ", text.replace("`", "")).strip(" :;,.([{\"'")


@pytest.fixture(scope="module")
def page() -> str:
    return flat(PAGE.read_text(encoding="utf-8"))


def has_words(text: str) -> bool:
    return len("".join(re.findall(r"[A-Za-z]{2,}", text))) >= 6


def test_every_message_has_an_entry(page: str) -> None:
    found = messages()
    assert len(found) > 150, "the walk over the source finds messages"
    own = [message for message in found if has_words(message.longest)]
    missing = [f"{m.where}: {m.longest}" for m in own if m.longest not in page]
    assert not missing, "add these to docs/troubleshooting.md:\n" + "\n".join(missing)
    passed_on = {m.where.split(":")[0] for m in found if not has_words(m.longest)}
    assert passed_on <= PASSED_ON


def test_every_entry_is_a_message_of_the_program() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    entries = [flat(line) for line in lines if line.startswith("`")]
    assert len(entries) > 120
    known = {piece for message in messages() for piece in message.pieces if has_words(piece)}
    known |= {"which is not installed: pip install"}  # MissingExtra's, made in its constructor
    stale = [entry for entry in entries if not any(piece in entry for piece in known)]
    assert stale == ["view …: …"]


def test_every_entry_says_what_to_make_of_it() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("`"):
            after = next(text for text in lines[number:] if not text.startswith("`"))
            assert after.startswith(":   "), f"line {number + 1}"
