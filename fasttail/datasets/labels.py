"""Labels as they are written -> classes. What can't be meant is refused before an image is read."""

import os
import re
from collections.abc import Callable, Sequence

from fasttail.errors import UserError

_MAX_DIGITS = 18
_CLASS_NUMBER = re.compile(r"[0-9]+")
# What a table's program writes for a number or for none, and nobody calls a class.
_OTHER_NUMBER = re.compile(
    r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf(inity)?)", re.IGNORECASE
)


def classes(labels: Sequence[str], where: Callable[[int], str]) -> tuple[str, ...]:
    """The classes of train's labels: all numbers, then in their order, or all texts, in
    alphabetical order. `where(i)` says where label i stands.

    Raises `UserError` for a label that is empty, can't be printed, or is a number but none of a
    class, and where numbers and texts are mixed.
    """
    first: dict[str, int] = {}
    for i, label in enumerate(labels):
        first.setdefault(label, i)
    for label, i in first.items():
        if not label:
            raise UserError(f"{where(i)} has no label: give it one, or take it out")
        if not label.isprintable():
            raise UserError(
                f"{where(i)}: the label {os.fsencode(label)!r} can't be printed: is it in another "
                "encoding? --encoding cp1252, latin-1, utf-16, ..."
            )
        if len(label) > _MAX_DIGITS and _CLASS_NUMBER.fullmatch(label):
            raise UserError(f"{where(i)}: a label of {len(label)} digits")
        if not _CLASS_NUMBER.fullmatch(label) and _OTHER_NUMBER.fullmatch(label):
            raise UserError(
                f"{where(i)}: label {label!r} is no class: classes are whole numbers from 0, or "
                "texts"
            )
    numbers = {int(label): label for label in first if _CLASS_NUMBER.fullmatch(label)}
    if not numbers:
        return tuple(sorted(first))
    if len(numbers) < len(first):
        odd = next(label for label in first if label not in numbers.values())
        other = next(label for label in numbers.values() if label != odd)
        raise UserError(
            f"{where(first[odd])}: label {odd!r}, but {where(first[other])} has {other!r}: labels "
            "are all numbers, each written in one way, or all texts"
        )
    return tuple(numbers[number] for number in sorted(numbers))


def folder_name(name: str, folder: object, encoding: str | None) -> str:
    """A class folder's name as text. Raises `UserError` if it can't be printed."""
    text = name
    if not name.isprintable() and encoding is not None:
        text = os.fsencode(name).decode(encoding, "surrogateescape")
    if not text.isprintable():  # bytes that are no UTF-8 come as surrogates, which are not
        raise UserError(
            f"{folder}: the class folder {os.fsencode(name)!r} has a name that can't be printed: "
            "say its encoding (--encoding latin-1), or rename it"
        )
    return text
