"""hpvod train and hpvod pretrain-flow: what they make, and how they say what is wrong."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from typer.testing import CliRunner, Result

from hpvod import config
from hpvod.cli import app
from hpvod.data import SkippedWarning, read_image
from hpvod.synthetic import SYNTHETIC_CLASSES
from hpvod.weights import load_model, load_torchvision_resnet

from .small_training import CONFIG, make_small_data

SMALL_RESNET = dataclasses.replace(CONFIG, depths=(1, 1, 1, 1), width=64, feature_channels=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_small_data(tmp_path_factory.mktemp("made"))


@pytest.fixture
def data(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made[0], tmp_path / "data"))


@pytest.fixture
def weights(made: tuple[Path, Path]) -> Path:
    return made[1]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(data: Path, out: Path, *options: object) -> Result:
    common = ("--iterations", 1, "--workers", 0, "--device", "cpu")
    return run("train", data, "--out", out, *common, *options)


def pretrain(data: Path, out: Path, *options: object) -> Result:
    common = ("--iterations", 1, "--workers", 0, "--device", "cpu", "--batch", 1)
    return run("pretrain-flow", data / "FlyingChairs", "--out", out, *common, *options)


def error_of(result: Result) -> str:
    """The one line that the command ends with."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("hpvod: error: ")
    return line.removeprefix("hpvod: error: ")


def test_flow_first_and_then_the_detector(made: tuple[Path, Path], tmp_path: Path) -> None:
    data, flow = made[0], tmp_path / "flow" / "flow.safetensors"
    first = pretrain(data, tmp_path / "flow", "--model", "tiny", "--iterations", 2)
    assert first.exit_code == 0, first.output
    options = ("--model", "tiny", "--from-scratch", "--flow", flow, "--det", data)
    second = train(data, tmp_path / "run", *options, "--learning-rate", 0)
    assert second.exit_code == 0, second.output
    assert "1/1: total " in second.stderr and " updated " in second.stderr
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.config.classes == SYNTHETIC_CLASSES
    state = model.flow.state_dict()
    # Nothing was learnt at a rate of 0.
    assert all(torch.equal(state[name], value) for name, value in load_file(flow).items())
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_run_that_is_done_writes_its_model_again(made: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--weights", made[1], "--iterations", 2)
    model = tmp_path / "run" / "model.safetensors"
    assert train(made[0], tmp_path / "run", *options).exit_code == 0
    before = load_file(model)
    model.unlink()
    # What the result does not depend on may be another.
    again = train(made[0], tmp_path / "run", *options, "--workers", 1, "--checkpoint-every", 7)
    assert again.exit_code == 0, again.output
    assert all(torch.equal(before[name], value) for name, value in load_file(model).items())


def test_a_classifier_of_torchvisions_starts_a_run(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(config._PRESETS, "tiny", SMALL_RESNET)
    torch.manual_seed(0)
    classifier = ResNet(Bottleneck, [1, 1, 1, 1])
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    torch.save(classifier.state_dict(), tmp_path / "resnet.pth")
    options = ("--model", "tiny", "--resnet", tmp_path / "resnet.pth")
    result = train(made[0], tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.config.stride_in == "3x3"
    before = load_model(tmp_path / "run" / "model.safetensors").features
    load_torchvision_resnet(before, tmp_path / "resnet.pth")
    changed = {
        name
        for name, value in before.state_dict().items()
        if not torch.equal(model.features.state_dict()[name], value)
    }
    # The first layers and all normalisation stay ImageNet's.
    convolutions = {name for name in before.state_dict() if name.endswith(".conv.weight")}
    frozen = {name for name in convolutions if name.startswith(("conv1.", "res2."))}
    assert changed == convolutions - frozen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to start from: give --weights, --resnet or --from-scratch"),
        (("--from-scratch", "--resnet", "a.pth"), "--from-scratch and --resnet exclude each other"),
        (("--weights", "a", "--resnet", "b"), "--weights and --resnet exclude each other"),
        (
            ("--weights", "a", "--model", "tiny"),
            "--model means nothing to --weights, whose file says it",
        ),
        (("--from-scratch", "--model", "vast"), "--model: no model preset 'vast'"),
        (("--from-scratch", "--device", "tpu"), "--device: unknown device 'tpu'"),
        (("--from-scratch", "--amp", "int4"), "--amp: must be bf16 or fp16, not 'int4'"),
        (("--from-scratch", "--amp", "fp16"), "--amp fp16: needs a GPU; choose bf16"),
        (("--weights", "none.safetensors"), "none.safetensors: no such file"),
        (("--resnet", "none.pth"), "none.pth: no such file"),
        (("--from-scratch", "--classes", "none.txt"), "none.txt: cannot be read as a list"),
    ],
)
def test_wrong_options(
    made: tuple[Path, Path], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert error_of(train(made[0], tmp_path / "run", *options)).startswith(message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "test"), "--split: must be train, val or all, not 'test'"),
        (("--model", "vast"), "--model: no model preset 'vast'"),
        (("--amp", "fp16"), "--amp fp16: needs a GPU"),
    ],
)
def test_wrong_options_of_pretrain_flow(
    made: tuple[Path, Path], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert error_of(pretrain(made[0], tmp_path / "run", *options)).startswith(message)
    assert not (tmp_path / "run").exists()


def test_weights_of_other_classes(data: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    options = ("--weights", weights, "--classes", tmp_path / "names.txt")
    assert error_of(train(data, tmp_path / "run", *options)) == (
        f"{weights}: has other classes than the data set"
    )


def test_the_list_of_classes_is_missing(data: Path, tmp_path: Path) -> None:
    """ImageNet's classes are taken then, and the objects are of none of them."""
    (data / "classes.txt").unlink()
    message = error_of(train(data, tmp_path / "run", "--from-scratch", "--model", "tiny"))
    assert message.startswith("20 samples in turn cannot be used; the last: ")
    assert ".xml: an object called " in message and "classes.txt" in message


@pytest.mark.parametrize("text", ["", "cat\ncat\n"])
def test_a_list_of_no_classes_or_of_one_twice(data: Path, tmp_path: Path, text: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text(text)
    message = error_of(train(data, tmp_path / "run", "--from-scratch", "--classes", names))
    assert message.startswith(f"{names}: {'repeats' if text else 'names no'}")


def test_empty_splits(data: Path, tmp_path: Path) -> None:
    lists = data / "ImageSets"
    (lists / "DET" / "train.txt").write_text("")
    options = ("--from-scratch", "--model", "tiny", "--det", data)
    message = error_of(train(data, tmp_path / "run", *options))
    assert message.startswith(f"{lists / 'DET' / 'train.txt'}: ")
    (lists / "VID" / "train.txt").write_text("\n")
    message = error_of(train(data, tmp_path / "run", *options))
    assert message == f"{lists / 'VID' / 'train.txt'}: the split is empty"
    (lists / "VID" / "train.txt").unlink()
    assert str(lists / "VID") in error_of(train(data, tmp_path / "run", *options))
    kinds = data / "FlyingChairs" / "FlyingChairs_train_val.txt"
    kinds.write_text("2\n" * 10)
    assert error_of(pretrain(data, tmp_path / "run")) == f"{kinds}: the split 'train' is empty"


def box_outside(path: Path) -> None:
    text = path.read_text()
    start = text.index("<xmax>") + len("<xmax>")
    path.write_text(text[:start] + "8000" + text[text.index("</xmax>") :])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def annotated(data: Path) -> list[Path]:
    files = sorted((data / "Annotations" / "VID" / "train").rglob("*.xml"))
    return [path for path in files if "<object>" in path.read_text()]


def images(data: Path) -> list[Path]:
    return sorted((data / "Data" / "VID" / "train").rglob("*.JPEG"))


@pytest.mark.parametrize(
    ("files", "spoil", "message"),
    [
        (annotated, box_outside, r"\.xml: the box .*8000.* is empty or outside the image"),
        (annotated, truncate, r"\.xml: is damaged or not XML"),
        (annotated, Path.unlink, r"\.xml: no such file"),
        (images, truncate, r"\.JPEG: cannot be read as an image"),
        (images, empty, r"\.JPEG: cannot be read as an image"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_skipped(
    data: Path,
    weights: Path,
    tmp_path: Path,
    files: Callable[[Path], list[Path]],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    for path in files(data)[::3]:
        spoil(path)
    with pytest.warns(SkippedWarning, match=message):
        result = train(data, tmp_path / "run", "--weights", weights, "--batch", 12)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1].endswith("files were skipped")


def test_nothing_can_be_used(data: Path, weights: Path, tmp_path: Path) -> None:
    for path in annotated(data):
        box_outside(path)
    for path in set(images(data)) - {image_of(data, path) for path in annotated(data)}:
        path.unlink()
    message = error_of(train(data, tmp_path / "run", "--weights", weights, "--workers", 1))
    assert message.startswith("20 samples in turn cannot be used; the last: ")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def image_of(data: Path, annotation: Path) -> Path:
    relative = annotation.relative_to(data / "Annotations").with_suffix(".JPEG")
    return data / "Data" / relative


def test_a_pair_that_cannot_be_used_is_named_and_skipped(data: Path, tmp_path: Path) -> None:
    chairs = data / "FlyingChairs" / "data"
    truncate(chairs / "00002_flow.flo")
    truncate(chairs / "00004_img1.ppm")
    (chairs / "00006_img2.ppm").unlink()
    with pytest.warns(SkippedWarning) as warned:
        options = ("--model", "tiny", "--batch", 40)
        result = pretrain(data, tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    text = "\n".join(str(warning.message) for warning in warned)
    for name in ("00002_flow.flo: holds", "00004_img1.ppm: cannot", "00006_img2.ppm: cannot"):
        assert f"{chairs / name}" in text
    assert result.stderr.splitlines()[-1] == "hpvod: 3 files were skipped"


@pytest.mark.parametrize("command", [train, pretrain])
def test_where_nothing_can_be_written(
    made: tuple[Path, Path], tmp_path: Path, command: Callable[..., Result]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "run"
    options = ("--weights", made[1]) if command is train else ("--model", "tiny")
    assert error_of(command(made[0], out, *options)).startswith(f"{out}: cannot be made (")
    blocked = tmp_path / "run" / "tensorboard"
    blocked.parent.mkdir()
    blocked.touch()
    assert str(blocked) in error_of(command(made[0], blocked.parent, *options))


def test_a_checkpoint_that_is_damaged_or_of_another_run(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    data, weights = made
    assert train(data, tmp_path / "run", "--weights", weights).exit_code == 0
    again = train(data, tmp_path / "run", "--weights", weights, "--seed", 1)
    assert error_of(again).startswith("--seed: is 1, but ")
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    truncate(checkpoint)
    again = train(data, tmp_path / "run", "--weights", weights)
    assert error_of(again) == f"{checkpoint}: is truncated or damaged"


def test_a_signal_to_the_whole_group_saves_before_the_end(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    """As from a terminal or a scheduler: the workers get it as well."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "hpvod", "train", str(made[0]), "--out", str(out)]
    command += ["--weights", str(made[1]), "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(out.glob("tensorboard/*")) and process.poll() is None:
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == (
        "hpvod: interrupted; the same command goes on from the last checkpoint, if any"
    )
    assert load_file(out / "checkpoint.safetensors")


def test_the_data_are_what_they_should_be(made: tuple[Path, Path]) -> None:
    assert len(images(made[0])) == 18 and len(annotated(made[0])) > 9
    assert read_image(images(made[0])[0]).shape == (64, 80, 3)
