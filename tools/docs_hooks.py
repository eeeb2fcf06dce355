"""What mkdocs calls while it builds the site: the commands and their options go into cli.md, the
keys of the configuration into configuration.md.

They are read from the program itself, so that the pages can't tell of another one. What a command
is made of is looked at by its attributes: their classes' names differ between typer's versions.
"""

import re
from typing import Any

import typer

from fasttail import recipes
from fasttail.cli import app
from fasttail.console import setting_text


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page with its reference where the mark is, without links to files that are no pages."""
    markdown = re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", markdown)
    if page.file.src_uri not in PAGES:
        return markdown
    mark, made = PAGES[page.file.src_uri]
    if mark not in markdown:
        raise ValueError(f"{page.file.src_uri} has no {mark}")
    return markdown.replace(mark, made())


def keys() -> str:
    """Markdown: a table of the configuration's keys for every section."""
    lines, section = [], None
    for row in recipes.reference():
        now, _, name = row["key"].rpartition(".")
        if now != section:
            section = now
            lines += [
                "",
                f"## {now or 'The run'}",
                "",
                "| key | default | |",
                "| --- | --- | --- |",
            ]
        choices = f" ({', '.join(map(str, row['choices']))})" if row["choices"] else ""
        cells = (f"`{name}`", f"`{setting_text(row['default'])}`", f"{row['description']}{choices}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def commands() -> str:
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


PAGES = {
    "cli.md": ("<!-- the commands -->", commands),
    "configuration.md": ("<!-- the keys -->", keys),
}
