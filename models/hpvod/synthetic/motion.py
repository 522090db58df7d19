"""Where things are at any moment: the affine maps from their own coordinates to the image's.

Time is counted in frames and may lie between them; angles are in radians; points are pixels, a
pixel's centre at whole numbers. An affine map is a float64 [3, 3] on columns (x, y, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Events:
    """Something that comes and goes: 0 at most times, up to its height around some moments.

    Attributes:
        moments: times of the peaks, [K].
        widths: frames from a peak down to 0, [K], above 0.
        heights: of the peaks, [K].
    """

    moments: tuple[float, ...] = ()
    widths: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()

    def __call__(self, time: float) -> float:
        """The strength at `time`, that of the strongest event."""
        strengths = (
            height * np.cos(np.clip((time - moment) / width, -1, 1) * np.pi / 2) ** 2
            for moment, width, height in zip(self.moments, self.widths, self.heights, strict=True)
        )
        return float(max(strengths, default=0.0))


@dataclass(frozen=True)
class Course:
    """A straight course at constant speed, thrown back at the sides of a rectangle.

    Attributes:
        start: x, y at time 0.
        velocity: of x and y a frame.
        low: the least x and y.
        high: the greatest, above `low`.
    """

    start: tuple[float, float]
    velocity: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]

    def __call__(self, time: float) -> np.ndarray:
        """The point (x, y) at `time`."""
        low, high = np.array(self.low), np.array(self.high)
        span = high - low
        way = np.array(self.start) + time * np.array(self.velocity) - low
        point: np.ndarray = high - abs(way % (2 * span) - span)
        return point


@dataclass(frozen=True)
class ObjectMotion:
    """An object in the image.

    Attributes:
        course: of its centre.
        side: its side in pixels.
        swing: how far its side swings from that, as a share of it.
        period: frames that the swing takes.
        angle: at time 0.
        spin: of the angle a frame.
        pose: how far it turns away from the viewer: at 1 it is foreshortened to about a third and
            sheared.
    """

    course: Course
    side: float
    swing: float
    period: float
    angle: float
    spin: float
    pose: Events

    def __call__(self, time: float) -> np.ndarray:
        """The affine map at `time`, from the square of corners (-1, -1) and (1, 1)."""
        size = self.side / 2 * (1 + self.swing * np.sin(2 * np.pi * time / self.period))
        turned = self.pose(time)
        foreshortened = np.array([[1 - 0.65 * turned, 0.5 * turned], [0, 1]])
        result = np.eye(3)
        result[:2, :2] = size * _rotation(self.angle + self.spin * time) @ foreshortened
        result[:2, 2] = self.course(time)
        return result


@dataclass(frozen=True)
class CameraMotion:
    """A camera over a flat background.

    Attributes:
        course: of the background's point in the image's centre.
        centre: of the image, x, y.
        zoom: the greatest magnification; the least is its reciprocal.
        angle: the greatest angle to either side.
        period: frames that a turn or a zoom takes, to and fro.
        phase: of both at time 0, in radians.
    """

    course: Course
    centre: tuple[float, float]
    zoom: float
    angle: float
    period: float
    phase: float

    def __call__(self, time: float) -> np.ndarray:
        """The affine map at `time`, from the background's pixels."""
        phase = self.phase + 2 * np.pi * time / self.period
        result = np.eye(3)
        result[:2, :2] = self.zoom ** np.sin(phase) * _rotation(self.angle * np.cos(phase))
        result[:2, 2] = np.array(self.centre) - result[:2, :2] @ self.course(time)
        return result


def displacement(from_: np.ndarray, to: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far a thing takes what it shows at some points.

    Args:
        from_: its affine map at one moment.
        to: the same at another.
        points: x, y in the image at the first moment, [..., 2].

    Returns:
        dx, dy in pixels, float64 [..., 2].
    """
    change = to @ np.linalg.inv(from_) - np.eye(3)
    return points @ change[:2, :2].T + change[:2, 2]


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
