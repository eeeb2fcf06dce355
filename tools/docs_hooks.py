"""The reference pages: the commands and their options in cli.md, the configuration's keys in
configuration.md. mkdocs calls this while it builds the site; `python tools/docs_hooks.py` writes
them into docs/, for whoever reads the pages there.

They are read from the program itself, so that the pages can't differ from it. What a command
is made of is looked at by its attributes: their classes' names differ between typer's versions.
"""

import re
from pathlib import Path
from typing import Any

import typer

from fasttail import recipes
from fasttail.cli import app
from fasttail.console import setting_text

END = "<!-- the end of what is generated -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page with its reference as the program has it now, without links to files that are no
    pages."""
    markdown = re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", markdown)
    return current(page.file.src_uri, markdown)


def current(name: str, markdown: str) -> str:
    """A page with what is between its mark and `END` made again."""
    if name not in PAGES:
        return markdown
    mark, made = PAGES[name]
    before, found, rest = markdown.partition(mark)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{name} has no {mark} or no {END}")
    return f"{before}{mark}\n\n{made()}\n\n{END}{after}"


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
    return "\n".join(lines).strip()


def commands() -> str:
    """Markdown: a section for every command, its options as a table."""
    program: Any = typer.main.get_command(app)
    sections = [_options(program)]
    sections += [_section(name, command) for name, command in program.commands.items()]
    return "\n\n".join(sections)


def _section(name: str, command: Any) -> str:
    arguments = " ".join(_argument(p) for p in command.params if _is_argument(p))
    usage = f"`fasttail {name} {arguments} [OPTIONS]`".replace("  [", " [")
    texts = [f"### {name}", _flat(command.help), usage, _options(command)]
    if command.epilog:
        texts.append("\n".join(["```", *command.epilog.split("\n\n")[1:], "```"]))
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
            needed = _default(parameter)
        text = _flat(parameter.help) + needed
        rows.append(f"| {name} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def _default(option: Any) -> str:
    """What is taken where the option is not given."""
    if option.required:
        return " Required."
    if isinstance(option.show_default, str):
        return f" Default: {option.show_default}."
    return "" if option.is_flag or option.default is None else f" Default: {option.default}."


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


PAGES = {
    "cli.md": ("<!-- the commands -->", commands),
    "configuration.md": ("<!-- the keys -->", keys),
}

if __name__ == "__main__":
    docs = Path(__file__).parents[1] / "docs"
    for name in PAGES:
        text = (docs / name).read_text(encoding="utf-8")
        (docs / name).write_text(current(name, text), encoding="utf-8")
