"""Errors that are the user's to mend: one line on the screen, exit code 2, no traceback."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

SHOWN = 40  # names in a message; of more only the nearest
NEAREST = 5


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line.

    The command line prints the message and exits with code 2. Anything else that is raised is a
    fault of fasttail and keeps its traceback.
    """


class NotHere(UserError):
    """What this machine has does not do for a feature that nobody has to have."""


class MissingExtra(NotHere):
    """An optional package that a feature needs is not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs {package}, which is not installed: pip install "fasttail[{extra}]"'
        )


class CorruptSample(UserError):
    """A stored sample that can't be decoded: names the file, the sample, its class, and why."""


@contextmanager
def stoppable(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C within the block says how to go on, as known by then: the command line prints it, in
    one line, and exits with code 130. Of blocks within each other the outermost speaks."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_go_on()) from None


def printable(text: str) -> str:
    """A name or message for a terminal: what would act there, or is no text, is shown escaped.

    >>> print(printable("caf\\udce9 \\x1b[31m"))
    caf\\udce9 \\x1b[31m
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def unknown(what: str, given: str, choices: Iterable[str]) -> UserError:
    """A `UserError` that names the choices, and the nearest one where there is one; of many choices
    it names the nearest.

    >>> print(unknown("sampler", "sqr", ["instance", "sqrt"]))
    unknown sampler 'sqr' (did you mean 'sqrt'?): choose from instance, sqrt
    """
    names = list(choices)
    if len(names) > SHOWN:
        near = get_close_matches(given, names, n=NEAREST, cutoff=0.0)
        return UserError(
            f"unknown {what} {given!r}: the nearest of {len(names):,} are {', '.join(near)}"
        )
    near = get_close_matches(given, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UserError(f"unknown {what} {given!r}{hint}: choose from {', '.join(names)}")
