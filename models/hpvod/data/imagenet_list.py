"""ImageNet's lists of what is in a split, in the formats of its releases and of FGFA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hpvod.data.clip import DataError

# "<name>", "<name> <number>", or FGFA's "<snippet> 1 <frame> <length>".
_LINE = re.compile(r"(\S+)(?:\s+(-?\d+)(?:\s+\d+\s+\d+)?)?")
_FRAME = re.compile(r"(.+)/(\d{6})")
_SPLITS = ("train", "val", "test")
_PREFIXES = tuple(f"{split}/" for split in _SPLITS)


def read_list(folder: Path, split: str) -> Iterator[tuple[str, int | None]]:
    """Names in <split>.txt, or in <split>_*.txt where that is missing, and the number after each.

    Args:
        folder: ImageSets/VID or ImageSets/DET.
        split: Comes before the names that start with no split.

    Raises:
        DataError: There is no such list, or a line in it is of none of the formats.
    """
    paths = [folder / f"{split}.txt"]
    if not paths[0].is_file():
        paths = sorted(folder.glob(f"{split}_*.txt"))
    if not paths:
        raise DataError(f"{folder / f'{split}.txt'}: no such file, so there is no split {split!r}")
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of names") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None or not _is_relative(match[1]):
                raise DataError(f"{path}:{number}: names no frame or snippet: {line.strip()!r}")
            name = match[1] if match[1].startswith(_PREFIXES) else f"{split}/{match[1]}"
            yield name, None if match[2] is None else int(match[2])


def split_frame(name: str) -> tuple[str, str] | None:
    """The clip and the number in the name of a frame, "val/<clip>/000000"; None for a snippet."""
    match = _FRAME.fullmatch(name)
    return (match[1], match[2]) if match and match[1] not in _SPLITS else None


def _is_relative(name: str) -> bool:
    return name.isprintable() and all(part not in ("", ".", "..") for part in name.split("/"))
