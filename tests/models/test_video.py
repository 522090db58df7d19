from __future__ import annotations

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hpvod.video import VideoError, VideoReader, open_video
from hpvod.video_writer import VideoWriter

from .clips import RGB, clip, cut, read_video, write_images, write_video


def read(reader: VideoReader) -> list[tuple[RGB, float]]:
    with reader:
        return list(reader)


def read_until_error(reader: VideoReader) -> tuple[int, str]:
    count = 0
    with reader, pytest.raises(VideoError) as caught:
        for _ in reader:
            count += 1
    return count, str(caught.value)


class TestFiles:
    def test_frames_and_times_of_an_mp4(self, tmp_path: Path) -> None:
        frames = clip(6)
        pts = [100, 612, 1124, 2000, 2001, 9000]
        path = write_video(tmp_path / "a.mp4", frames, pts)
        reader = open_video(str(path))
        assert (reader.size, reader.frame_count, reader.files) == ((64, 48), 6, [path])
        found = read(reader)
        assert [time for _, time in found] == [(p - 100) / 12800 for p in pts]
        for (frame, _), original in zip(found, frames, strict=True):
            assert frame.dtype == np.uint8
            # What H.264 at crf 10 and the halved chroma may do to smooth colours.
            assert np.abs(frame.astype(int) - original).mean() < 4

    def test_frames_are_decoded_when_asked_for(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", clip(200))
        with open_video(str(path)) as reader:
            first, _ = next(iter(reader))
            packets_left = sum(1 for _ in vars(reader)["_container"].demux(video=0))
        assert first.shape == (48, 64, 3)
        assert packets_left > 100

    def test_a_rotated_video_is_read_upright(self, tmp_path: Path) -> None:
        frames = clip(3)
        path = write_video(tmp_path / "phone.mp4", frames)
        data = bytearray(path.read_bytes())
        # The display matrix of a track, here a quarter turn clockwise as phones write it.
        at = data.index(b"tkhd") + 4 + 40
        data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
        path.write_bytes(bytes(data))
        reader = open_video(str(path))
        assert reader.size == (48, 64)
        for (frame, _), original in zip(read(reader), frames, strict=True):
            assert np.abs(frame.astype(int) - np.rot90(original, -1)).mean() < 4

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_a_cut_mp4_is_read_to_where_it_ends(self, tmp_path: Path, share: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
        path = write_video(tmp_path / "a.mp4", list(noise), options={"movflags": "faststart"})
        size = path.stat().st_size
        cut(path, share)
        with av.open(str(path)) as container:
            index = container.streams.video[0].index_entries
            complete = sum(entry.pos + entry.size <= share * size - 1 for entry in index)
        count, message = read_until_error(open_video(str(path)))
        assert count == complete
        assert f"the file is cut short: only {count} of 30 frames" in message

    def test_an_mp4_cut_between_two_frames_is_noticed(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", clip(20), options={"movflags": "faststart"})
        with av.open(str(path)) as container:
            entry = container.streams.video[0].index_entries[10]
        path.write_bytes(path.read_bytes()[: entry.pos])
        count, message = read_until_error(open_video(str(path)))
        assert count == 10
        assert message == f"{path}: the file is cut short: only 10 of 20 frames could be read"

    def test_an_mp4_cut_before_its_index(self, tmp_path: Path) -> None:
        path = cut(write_video(tmp_path / "a.mp4", clip(10)), 0.5)
        with pytest.raises(VideoError, match=r"a\.mp4: cannot be read as a video"):
            open_video(str(path))

    def test_damage_in_the_middle(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", clip(20), options={"movflags": "faststart"})
        with av.open(str(path)) as container:
            entry = container.streams.video[0].index_entries[12]
        data = bytearray(path.read_bytes())
        data[entry.pos : entry.pos + entry.size] = b"\xff" * entry.size
        path.write_bytes(bytes(data))
        count, message = read_until_error(open_video(str(path)))
        assert count == 12
        assert message.startswith(f"{path}: damaged, and read up to there (")

    def test_a_change_of_frame_size(self, tmp_path: Path) -> None:
        small = write_video(tmp_path / "a.ts", clip(5))
        large = write_video(tmp_path / "b.ts", clip(5, 96, 64))
        path = tmp_path / "c.ts"
        path.write_bytes(small.read_bytes() + large.read_bytes())
        count, message = read_until_error(open_video(str(path)))
        assert count == 5
        assert message == f"{path}: the size of frame 5 is 96x64, but the video began as 64x48"

    @pytest.mark.parametrize("name", ["a.mp4", "a.txt"])
    def test_a_text_file(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text("no video at all\n" * 100)
        with pytest.raises(VideoError, match=rf"{name}: (cannot be read as a|has no) video"):
            open_video(str(path))

    def test_sound_only(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 16000), np.int16), format="s16", layout="stereo"
            )
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        with pytest.raises(VideoError, match="has no video in it"):
            open_video(str(path))

    def test_fps_is_refused(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", clip(2))
        with pytest.raises(VideoError, match="frame times of its own"):
            open_video(str(path), fps=30)


class TestImages:
    def test_a_folder_in_natural_order(self, tmp_path: Path) -> None:
        names = ["f2.png", "f10.bmp", "f9.PNG", "f1.tiff", "f010.webp"]
        order = ["f1.tiff", "f2.png", "f9.PNG", "f10.bmp", "f010.webp"]
        for value, name in enumerate(names):
            colour = np.full((32, 40, 3), 20 * value, np.uint8)
            Image.fromarray(colour).save(tmp_path / name, lossless=True)
        (tmp_path / "notes.txt").write_text("not a frame")
        (tmp_path / ".f0.png").write_text("not a frame either")
        reader = open_video(str(tmp_path), fps=10)
        assert [file.name for file in reader.files] == order
        assert (reader.size, reader.frame_count, reader.rate) == ((40, 32), 5, 10)
        found = read(reader)
        assert [frame[0, 0, 0] for frame, _ in found] == [20 * names.index(name) for name in order]
        assert [time for _, time in found] == [0, 0.1, 0.2, 0.3, 0.4]

    def test_a_glob(self, tmp_path: Path) -> None:
        write_images(tmp_path / "a", clip(11))
        reader = open_video(str(tmp_path / "a" / "1*.png"))
        assert [file.name for file in reader.files] == ["1.png", "10.png"]
        assert [time for _, time in read(reader)] == [0, 0.04]

    def test_grey_and_transparent_images_become_rgb(self, tmp_path: Path) -> None:
        Image.new("L", (32, 32), 77).save(tmp_path / "1.png")
        Image.new("RGBA", (32, 32), (1, 2, 3, 4)).save(tmp_path / "2.png")
        found = [frame for frame, _ in read(open_video(str(tmp_path)))]
        assert [tuple(frame[0, 0]) for frame in found] == [(77, 77, 77), (1, 2, 3)]

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(VideoError, match="the folder holds no images"):
            open_video(str(tmp_path))

    def test_a_glob_without_matches(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"\*\.png: no file matches"):
            open_video(str(tmp_path / "*.png"))

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"gone\.mp4: no such file or folder"):
            open_video(str(tmp_path / "gone.mp4"))

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_a_damaged_image(self, tmp_path: Path, suffix: str) -> None:
        folder = write_images(tmp_path / "a", clip(3), suffix)
        cut(folder / f"2{suffix}", 0.5)
        count, message = read_until_error(open_video(str(folder)))
        assert count == 2
        assert message.startswith(f"{folder}/2{suffix}: cannot be read as an image (")

    def test_an_image_of_another_size(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "a", clip(2))
        Image.fromarray(clip(1, 32, 32)[0]).save(folder / "2.png")
        count, message = read_until_error(open_video(str(folder)))
        assert count == 2
        assert message == (
            f"{folder}/2.png: the size of frame 2 is 32x32, but the video began as 64x48"
        )

    @pytest.mark.parametrize("fps", [0, -1])
    def test_fps_out_of_range(self, tmp_path: Path, fps: float) -> None:
        with pytest.raises(VideoError, match="fps: expected more than 0"):
            open_video(str(write_images(tmp_path / "a", clip(1))), fps)


class TestWriter:
    @pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 48), (64, 47), (33, 35)])
    def test_frames_times_and_odd_sizes(self, tmp_path: Path, width: int, height: int) -> None:
        frames, path = clip(5, width, height), tmp_path / "a.mp4"
        times = [0.0, 0.04, 0.1, 0.5, 0.50001]
        with VideoWriter(path, (width, height), Fraction(25), Fraction(1, 90000)) as writer:
            for frame, time in zip(frames, times, strict=True):
                writer.write(frame, time)
        found = read_video(path)
        assert found[0][0].shape == (height + height % 2, width + width % 2, 3)
        assert [time for _, time in found] == pytest.approx(times, abs=0.5 / 90000)
        for (frame, _), original in zip(found, frames, strict=True):
            # crf 20 on top of the halved chroma.
            assert np.abs(frame[:height, :width].astype(int) - original).mean() < 5

    def test_colours_are_kept_and_tagged(self, tmp_path: Path) -> None:
        colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (30, 144, 255), (255, 255, 255)]
        path = tmp_path / "a.mp4"
        with VideoWriter(path, (32, 32), Fraction(25), Fraction(1, 25)) as writer:
            for i, colour in enumerate(colours):
                writer.write(np.full((32, 32, 3), colour, np.uint8), i / 25)
        for (frame, _), colour in zip(read_video(path), colours, strict=True):
            # Eight bits of luma and chroma round RGB by this much.
            assert np.abs(frame[16, 16].astype(int) - colour).max() <= 2
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            assert (context.name, context.pix_fmt, context.colorspace) == ("h264", "yuv420p", 1)

    def test_times_that_do_not_grow_are_moved(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        with VideoWriter(path, (64, 48), Fraction(25), Fraction(1, 100)) as writer:
            for frame, time in zip(clip(4), [0.0, 0.0, 0.5, 0.2], strict=True):
                writer.write(frame, time)
        assert [time for _, time in read_video(path)] == pytest.approx([0, 0.01, 0.5, 0.51])

    def test_nothing_is_written_without_a_frame(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        path.write_text("an older file")
        with VideoWriter(path, (64, 48), Fraction(25), Fraction(1, 25)):
            pass
        assert path.read_text(encoding="utf-8") == "an older file"

    def test_another_name_than_mp4(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"a\.avi: .* must end in \.mp4"):
            VideoWriter(tmp_path / "a.avi", (64, 48), Fraction(25), Fraction(1, 25))

    def test_a_frame_of_another_size(self, tmp_path: Path) -> None:
        with (
            VideoWriter(tmp_path / "a.mp4", (64, 48), Fraction(25), Fraction(1, 25)) as writer,
            pytest.raises(VideoError, match="got a frame of 32x32 in a video of 64x48"),
        ):
            writer.write(clip(1, 32, 32)[0], 0.0)

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "gone" / "a.mp4"
        with (
            pytest.raises(VideoError, match=r"cannot be written \(No such file or directory\)"),
            VideoWriter(path, (64, 48), Fraction(25), Fraction(1, 25)) as writer,
        ):
            writer.write(clip(1)[0], 0.0)

    def test_playable_while_it_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        with VideoWriter(path, (64, 48), Fraction(25), Fraction(1, 25)) as writer:
            for i, frame in enumerate(clip(10)):
                writer.write(frame, i / 25)
                if i:
                    assert len(read_video(path)) == i
        assert len(read_video(path)) == 10
        with av.open(str(path)) as container:
            # A plain mp4 by now: its index knows every frame.
            assert container.streams.video[0].frames == 10

    @pytest.mark.parametrize("share", [0, 0.004, 0.03, 0.1, 0.5, 0.88, 0.95, 0.999])
    def test_playable_after_the_disk_was_full(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "a.mp4"
        program = f"""
import resource
from fractions import Fraction
from pathlib import Path
import numpy as np
from hpvod.video import VideoError
from hpvod.video_writer import VideoWriter
path = Path({str(path)!r})
frames = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
def write():
    count = 0
    try:
        with VideoWriter(path, (64, 48), Fraction(25), Fraction(1, 25)) as writer:
            for i, frame in enumerate(frames):
                writer.write(frame, i / 25)
                count += 1
    except VideoError as error:
        print(count, error)
write()
limit = int({share} * path.stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
write()
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        count, message = done.stdout.split(maxsplit=1)
        assert message.strip() == f"{path}: cannot be written (File too large)"
        if int(count) >= 2:
            # The last frame taken may still have been on its way.
            assert len(read_video(path)) >= int(count) - 1
