"""What mkdocs calls while it builds the site: the commands and their options go into cli.md.

They are read from the program itself, so that the page can't tell of another one. What a command
is made of is looked at by its attributes: their classes' names differ between typer's versions.
"""

import re
from typing import Any

import typer

from fasttail.cli import app

MARK = "<!-- the commands -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page with the commands where the mark is; other pages as they are."""
    if page.file.src_uri != "cli.md":
        return markdown
    if MARK not in markdown:
        raise ValueError(f"cli.md has no {MARK}")
    return markdown.replace(MARK, reference())


def reference() -> str:
    """Markdown: a section for every command, its options as a table."""
    program: Any = typer.main.get_command(app)
    sections = [_options(program)]
    sections += [_section(name, command) for name, command in program.commands.items()]
    return "\n\n".join(sections)


def _section(name: str, command: Any) -> str:
    arguments = " ".join(_argument(p) for p in command.params if _is_argument(p))
    usage = f"    fasttail {name} {arguments} [OPTIONS]".replace("  [", " [")
    texts = [f"### {name}", _flat(command.help), usage, _options(command)]
    if command.epilog:
        examples = re.sub(r"^Examples?: ", "", command.epilog).split(";  ")
        texts.append("\n".join(["```", *(example.strip() for example in examples), "```"]))
    return "\n\n".join(texts)


def _argument(parameter: Any) -> str:
    name = (parameter.name or "").upper()
    return f"{name}..." if parameter.nargs == -1 else name


def _options(command: Any) -> str:
    rows = ["| | |", "| --- | --- |"]
    for parameter in command.params:
        if _is_argument(parameter):
            name, needed = f"`{_argument(parameter)}`", ""
        else:
            name = ", ".join(f"`{text}`" for text in parameter.opts)
            name += "" if parameter.is_flag else " VALUE" * parameter.nargs
            needed = " Required." if parameter.required else ""
        text = _flat(parameter.help) + needed
        rows.append(f"| {name} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())
