"""Lists of class names, one a line."""

from __future__ import annotations

from pathlib import Path

from hpvod.data.clip import DataError


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in a file of UTF-8 text; empty lines count for nothing.

    Raises:
        DataError: The file cannot be read, names no class, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of classes") from error
    classes = tuple(line.strip() for line in lines if line.strip())
    if not classes or len(set(classes)) != len(classes):
        problem = "repeats a class" if classes else "names no class"
        raise DataError(f"{path}: {problem}; it must hold one name a line")
    return classes
