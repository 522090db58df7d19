"""The rows of the paper's Table 1 as data: what Algorithm 1 does is decided by a `Method` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

KeySchedule = Literal["every", "adaptive"]


@dataclass(frozen=True)
class Method:
    """One row of Table 1 (Section 3.4).

    Args:
        name: what results and tables call the method.
        key: "every": frame i is a key frame where i is a multiple of `interval`;
            "adaptive": where Eq. 9 says so. Frame 0 always is.
        do_aggr: aggregate with the last key frame's features, lines 19-21 of Algorithm 1.
        do_spatial: recompute non-key frames where U is 1, line 14 of Algorithm 1.
        interval: frames from one key frame to the next; read by the "every" schedule only.
        tau: U is 1 where the consistency Q is at most `tau` (Eq. 6).
        gamma: the share of positions with U = 1 above which "adaptive" picks a key frame (Eq. 9).
        window: 0 for the recursive aggregation of Eq. 4 and 7; r > 0 for the dense aggregation
            of Eq. 2 over the frames i - r to i + r, which looks r frames ahead.

    Raises:
        ValueError: an argument is out of its range, or `window` is combined with anything but key
            frames only and aggregation, the one case in which the paper defines it.
    """

    name: str
    key: KeySchedule
    do_aggr: bool
    do_spatial: bool
    interval: int = 10
    tau: float = 0.0
    gamma: float = 0.2
    window: int = 0

    def __post_init__(self) -> None:
        if self.key not in get_args(KeySchedule):
            raise ValueError(f"key: expected one of {get_args(KeySchedule)}, got {self.key!r}")
        if self.interval < 1:
            raise ValueError(f"interval: expected at least 1 frame, got {self.interval}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma: expected a share from 0 to 1, got {self.gamma}")
        if self.window < 0:
            raise ValueError(f"window: expected 0 or more frames, got {self.window}")
        if self.window and not (self._every_frame_is_key and self.do_aggr and not self.do_spatial):
            raise ValueError(
                f"window: dense aggregation (window={self.window}) needs key='every', interval=1, "
                "do_aggr=True and do_spatial=False"
            )

    @property
    def keys_only(self) -> bool:
        """Whether every frame is a key frame that is computed without another one."""
        return self._every_frame_is_key and (bool(self.window) or not self.do_aggr)

    @property
    def _every_frame_is_key(self) -> bool:
        return self.key == "every" and self.interval == 1


PRESETS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("per_frame", key="every", do_aggr=False, do_spatial=False, interval=1),
        Method("dff", key="every", do_aggr=False, do_spatial=False, interval=10),
        Method("fgfa", key="every", do_aggr=True, do_spatial=False, interval=1, window=9),
        Method("c1", key="every", do_aggr=True, do_spatial=False, interval=10),
        Method("c2", key="every", do_aggr=True, do_spatial=True, interval=10),
        Method("c3", key="adaptive", do_aggr=True, do_spatial=True),
    )
}
"""Table 1, row by row."""
