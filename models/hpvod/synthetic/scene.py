"""A scene and what a camera sees of it: frames, who covers which pixel, and exact flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from hpvod.data.clip import Annotation
from hpvod.synthetic.layers import Cutout, Sprite, blend, resample
from hpvod.synthetic.motion import CameraMotion, Events, ObjectMotion, displacement

_MOST_EXPOSURES = 12
_EXPOSURE_STEP = 2.0  # pixels that the fastest point moves between two exposures
_LEAST_VISIBLE = 0.25  # of an object, for it to be annotated
_OCCLUDED = 0.1  # of an object's pixels in the image, behind others


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene.

    Attributes:
        label: its class, an index into `SYNTHETIC_CLASSES`.
        sprite: what it looks like.
        motion: where it is.
    """

    label: int
    sprite: Sprite
    motion: ObjectMotion


@dataclass(frozen=True)
class Scene:
    """Objects over a background, and a camera with a shutter, a lens and a noisy sensor.

    Attributes:
        height: of the image, in pixels.
        width: likewise.
        background: mode "RGB".
        camera: over the background.
        objects: from the farthest to the nearest; an object's track is its index.
        shutter: the share of a frame's time that the shutter is open.
        exposure: what is added to `shutter` at times.
        defocus: standard deviation of the lens's blur, in short sides of the image.
        noise: standard deviation of the sensor's noise, in grey levels.
        noise_seed: of the noise, which also depends on the time.
    """

    height: int
    width: int
    background: Image.Image
    camera: CameraMotion
    objects: tuple[SceneObject, ...]
    shutter: float
    exposure: Events
    defocus: Events
    noise: float
    noise_seed: int

    def image(self, time: int) -> np.ndarray:
        """The frame at `time`, uint8 [height, width, 3].

        It is the mean of sharp pictures from the shutter's opening to its closing, half before
        `time` and half after, then defocused, with noise.
        """
        opened = self.shutter + self.exposure(time)
        ends = time - opened / 2, time + opened / 2
        count = int(np.clip(np.ceil(self._travel(*ends) / _EXPOSURE_STEP), 1, _MOST_EXPOSURES))
        moments = time + opened * ((np.arange(count) + 0.5) / count - 0.5)
        light = np.zeros((self.height, self.width, 3), np.uint16)
        for moment in moments:
            light += self._sharp(float(moment))
        picture = Image.fromarray(((light + count // 2) // count).astype(np.uint8))
        sigma = self.defocus(time) * min(self.height, self.width)
        if sigma > 0:
            picture = picture.filter(ImageFilter.GaussianBlur(sigma))
        rng = np.random.default_rng((self.noise_seed, time))
        noise = self.noise * rng.standard_normal(light.shape, np.float32)
        image: np.ndarray = np.rint(np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
        return image

    def owners(self, time: float) -> np.ndarray:
        """Who covers which pixel: uint8 [height, width], 0 the background, k + 1 object k."""
        return self._owners(self._cutouts(time))

    def annotation(self, time: float) -> Annotation:
        """The objects of which more than a quarter is in the image and in front of the others.

        A box is the extent of the pixels that the object covers. An object is occluded if others
        hide more than a tenth of its pixels in the image.
        """
        cutouts = self._cutouts(time)
        owners = self._owners(cutouts)
        boxes, tracks, occluded = [], [], []
        for track, cutout in enumerate(cutouts):
            visible = owners == track + 1
            count = int(visible.sum())
            _, inside = cutout.within(self.height, self.width)
            if count <= _LEAST_VISIBLE * _opaque(cutout.rgba).sum():
                continue
            (rows,), (columns,) = visible.any(axis=1).nonzero(), visible.any(axis=0).nonzero()
            boxes.append([columns[0], rows[0], columns[-1], rows[-1]])
            tracks.append(track)
            occluded.append(count < (1 - _OCCLUDED) * _opaque(inside).sum())
        return Annotation(
            size=(self.height, self.width),
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            labels=np.array([self.objects[track].label for track in tracks], np.int64),
            tracks=np.array(tracks, np.int64),
            occluded=np.array(occluded, bool),
        )

    def flow(self, start: float, end: float) -> np.ndarray:
        """How far what each pixel shows at `start` has moved at `end`, hidden by then or not.

        Returns:
            dx, dy in pixels, float32 [height, width, 2].
        """
        y, x = np.indices((self.height, self.width))
        points = np.stack([x, y], axis=2).astype(np.float64)
        flow = displacement(self.camera(start), self.camera(end), points)
        owners = self.owners(start)
        for track, item in enumerate(self.objects):
            where = owners == track + 1
            flow[where] = displacement(item.motion(start), item.motion(end), points[where])
        return flow.astype(np.float32)

    def _sharp(self, time: float) -> np.ndarray:
        image = resample(self.background, self.camera(time), self.height, self.width).copy()
        for cutout in self._cutouts(time):
            blend(image, cutout)
        return image

    def _cutouts(self, time: float) -> list[Cutout]:
        return [item.sprite.place(item.motion(time)) for item in self.objects]

    def _owners(self, cutouts: list[Cutout]) -> np.ndarray:
        owners = np.zeros((self.height, self.width), np.uint8)
        for track, cutout in enumerate(cutouts):
            where, rgba = cutout.within(self.height, self.width)
            owners[where][_opaque(rgba)] = track + 1
        return owners

    def _travel(self, start: float, end: float) -> float:
        """The greatest distance that a point of the scene moves, in pixels."""
        right, bottom = self.width - 1, self.height - 1
        corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]], np.float64)
        moves = [displacement(self.camera(start), self.camera(end), corners)]
        for item in self.objects:
            square = np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]])
            at_start, at_end = item.motion(start), item.motion(end)
            moves.append((square @ (at_end - at_start).T)[:, :2])
        return float(np.hypot(*np.concatenate(moves).T).max())


def _opaque(rgba: np.ndarray) -> np.ndarray:
    return np.asarray(rgba[..., 3] >= 128)
