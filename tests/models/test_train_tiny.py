import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from torch.utils.tensorboard import SummaryWriter

from hpvod.cli import app

SCRIPT = Path(__file__).parents[2] / "models/train_tiny.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("train_tiny", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scalars(folder, values):
    writer = SummaryWriter(str(folder / "tensorboard"))
    for step, scalar in values.items():
        for name, value in scalar.items():
            writer.add_scalar(name, value, step)
    writer.close()


@pytest.mark.parametrize("gpu", [False, True])
def test_its_commands_are_hpvods_and_leave_weights_and_a_log(script, monkeypatch, tmp_path, gpu):
    commands, out = [], tmp_path / "a run"

    def run(command):
        commands.append(command)
        if "make-data" in command:
            Path(command[command.index("make-data") + 1]).mkdir(parents=True)

    monkeypatch.setattr(script, "_run", run)
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: gpu)
    terms = {"flow": "total", "images": "total", "clips": "total", "updates": "updated"}
    for stage, term in terms.items():
        scalars(out / stage, {20: {term: 0.5}, 40: {term: 0.25}})
    (out / "updates/model.safetensors").write_bytes(b"weights")
    script.main([str(out), "--seed", "3", "--area-weight", "0.01"])

    for command in commands:
        assert command[0] == sys.executable
        arguments = command[len(command) - command[::-1].index("hpvod") :]
        group = typer.main.get_command(app)
        with group.make_context("hpvod", arguments) as context:
            name, called, rest = group.resolve_command(context, arguments)
            with called.make_context(name, rest, parent=context) as parsed:
                batch = parsed.params.get("batch", 0)
        assert command.count("torch.distributed.run") == (batch > 0 and not gpu)
        assert batch in ((0, 4, 8) if gpu else (0, 2, 4))  # of each of two processes
    names = [
        next(word for word in c if word in ("make-data", "pretrain-flow", "train"))
        for c in commands
    ]
    assert names == ["make-data"] * 3 + ["pretrain-flow"] + ["train"] * 3
    assert (out / "tiny.safetensors").read_bytes() == b"weights"
    with (out / "tiny.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["stage"], line["iteration"]) for line in lines] == [
        (stage, iteration) for stage in terms for iteration in ("20", "40")
    ]
    assert [line["total"] for line in lines] == ["0.5", "0.25"] * 3 + ["", ""]
    assert lines[-1]["updated"] == "0.25"


def test_data_that_are_whole_are_not_made_again_and_others_are(script, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(script, "_run", lambda c: (made.append(c), Path(c[4]).mkdir(parents=True)))
    (tmp_path / "clips.unfinished").mkdir()
    (tmp_path / "clips.unfinished/half").touch()
    script._make_data(tmp_path / "clips", "--train 1")
    script._make_data(tmp_path / "clips", "--train 1")
    assert len(made) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "clips"]
    assert not list((tmp_path / "clips").iterdir())


def test_a_stage_that_fails_ends_the_script_with_its_status(script):
    with pytest.raises(SystemExit) as ended:
        script._run([sys.executable, "-c", "raise SystemExit(3)"])
    assert ended.value.code == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_may_finish_what_it_saves(number, tmp_path):
    command = f"""import signal, sys, time
def stop(*_):
    time.sleep(1)
    open({str(tmp_path / "saved")!r}, "w").close()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
open({str(tmp_path / "ready")!r}, "w").close()
time.sleep(60)
"""
    program = f"""import importlib.util, sys
spec = importlib.util.spec_from_file_location("train_tiny", {str(SCRIPT)!r})
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script._run([sys.executable, "-c", {command!r}])
"""
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    assert process.wait(60) == 130
    assert (tmp_path / "saved").exists()
