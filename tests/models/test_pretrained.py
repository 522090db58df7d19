from __future__ import annotations

import os
from pathlib import Path

import pytest

import hpvod.pretrained
from hpvod.config import ModelConfig
from hpvod.model import build_model
from hpvod.pretrained import pretrained_models
from hpvod.weights import WeightsError, load_model, save_weights


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that comes with the model "little"."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(hpvod.pretrained, "__file__", str(folder / "__init__.py"))
    (folder / "log.json").write_text("{}")
    save_weights(build_model(ModelConfig.preset("tiny")), folder / "little.safetensors")
    return folder


def test_names(package: Path) -> None:
    assert pretrained_models() == {"little": package / "little.safetensors"}


def test_load_model_knows_the_names(package: Path) -> None:
    assert load_model("little").config == ModelConfig.preset("tiny")
    with pytest.raises(WeightsError, match=r"^other: no such file$"):
        load_model("other")


def test_a_file_of_that_name_comes_first(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("little").write_text("mine")
    with pytest.raises(WeightsError, match="little: is not a safetensors file"):
        load_model("little")
    os.remove("little")
    assert load_model("little").config.classes
