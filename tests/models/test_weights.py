from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import resnet101
from torchvision.models.resnet import Bottleneck, ResNet

from hpvod.config import ModelConfig
from hpvod.folding import fold_batch_norm
from hpvod.model import HPVODModel
from hpvod.networks.feature import FeatureNetwork
from hpvod.weights import WeightsError, load_model, load_torchvision_resnet, save_weights

from .layer_updates import Recorder


class RunsCode:
    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._proof,)


@pytest.fixture
def saved(tiny_model: HPVODModel, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny_model, path)
    return path


def test_round_trip(tiny_model: HPVODModel, saved: Path) -> None:
    loaded = load_model(saved)
    assert loaded.config == tiny_model.config
    assert not loaded.training
    expected, found = tiny_model.state_dict(), loaded.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.features(image), tiny_model.features(image))
    detections = loaded.detection(loaded.features(image), (64, 96)).of_image(0)
    assert detections.boxes.isfinite().all()
    assert saved.stat().st_size < 8_000_000


def test_half_precision_file_gives_a_float32_model(tiny_model: HPVODModel, saved: Path) -> None:
    tensors = {name: value.half() for name, value in load_file(saved).items()}
    save_file(tensors, saved, {"format": "hpvod", "config": tiny_model.config.to_json()})
    assert all(value.dtype == torch.float32 for value in load_model(saved).state_dict().values())


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(WeightsError, match=rf"^{path}: no such file$"):
        load_model(path)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"^{tmp_path}: is not a file$"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "these are no weights\n" * 100])
def test_text_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text(text)
    with pytest.raises(WeightsError, match=rf"^{path}: is not a safetensors file$"):
        load_model(path)


@pytest.mark.parametrize("size", [100, 100_000])
def test_truncated_file(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(WeightsError, match=rf"^{saved}: is truncated or damaged$"):
        load_model(saved)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_is_not_executed(tmp_path: Path, writer: str) -> None:
    path, proof = tmp_path / "weights.safetensors", tmp_path / "executed"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(RunsCode(proof)))
    else:
        torch.save(RunsCode(proof), path)
    with pytest.raises(WeightsError, match=rf"^{path}: is not a safetensors file$"):
        load_model(path)
    assert not proof.exists()


def test_wrong_architecture(tiny_model: HPVODModel, saved: Path) -> None:
    config = ModelConfig(**{**vars(tiny_model.config), "width": 32})
    save_file(load_file(saved), saved, {"format": "hpvod", "config": config.to_json()})
    message = r"another architecture: features.conv1.* is \[16, .*\] and not \[32, .*more$"
    with pytest.raises(WeightsError, match=message) as error:
        load_model(saved)
    assert str(error.value).startswith(f"{saved}: ")


def test_tensors_that_are_no_floating_point(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(saved)
    tensors["flow.quality.bias"] = tensors["flow.quality.bias"].to(torch.int32)
    save_file(tensors, saved, metadata)
    with pytest.raises(WeightsError, match=r"flow\.quality\.bias holds torch\.int32 and no float"):
        load_model(saved)


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ((1, 1, 3, 1), "features.res4.2.conv1.bn.bias, .* missing$"),
        ((1, 1, 1, 1), "features.res4.1.conv1.bn.bias, .* not in the model$"),
    ],
)
def test_wrong_depth(
    tiny_model: HPVODModel, saved: Path, depths: tuple[int, ...], message: str
) -> None:
    config = ModelConfig(**{**vars(tiny_model.config), "depths": depths})
    save_file(load_file(saved), saved, {"format": "hpvod", "config": config.to_json()})
    with pytest.raises(WeightsError, match=message):
        load_model(saved)


def test_another_projects_file(saved: Path) -> None:
    save_file(load_file(saved), saved, {"format": "pt"})
    with pytest.raises(WeightsError, match="holds no hpvod model"):
        load_model(saved)


def test_bad_configuration(saved: Path) -> None:
    save_file(load_file(saved), saved, {"format": "hpvod", "config": '{"width": 16}'})
    with pytest.raises(WeightsError, match=rf"^{saved}: .*configuration"):
        load_model(saved)


def test_a_file_has_the_permissions_of_any_new_file(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert saved.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_folded_model_is_not_saved(tiny_model: HPVODModel, tmp_path: Path) -> None:
    path = tmp_path / "folded.safetensors"
    with pytest.raises(WeightsError, match=r"features\.conv1\.bn\.bias"):
        save_weights(fold_batch_norm(tiny_model), path)
    assert not path.exists()


def test_unwritable_file(tiny_model: HPVODModel, tmp_path: Path) -> None:
    path = tmp_path / "no such folder" / "tiny.safetensors"
    with pytest.raises(WeightsError, match=rf"^{path}: cannot be written"):
        save_weights(tiny_model, path)


@pytest.fixture(scope="module")
def classifier() -> ResNet:
    """An ImageNet classifier as torchvision builds it, but shallow."""
    torch.manual_seed(0)
    model = ResNet(Bottleneck, [1, 2, 1, 2], replace_stride_with_dilation=[False, False, True])
    model.layer4[0].conv2.dilation = model.layer4[0].conv2.padding = (2, 2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def write(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_classifier_gives_the_same_features(
    classifier: ResNet, tmp_path: Path, suffix: str
) -> None:
    path = write(classifier.state_dict(), tmp_path / f"resnet{suffix}")
    mean = (123.15, 115.90, 103.06)
    features = FeatureNetwork((1, 2, 1, 2), 64, 16, "3x3")
    own = features.feat_conv.weight.clone()
    load_torchvision_resnet(features, path, mean)
    assert torch.equal(features.feat_conv.weight, own)

    pixels = torch.randint(0, 256, (1, 3, 320, 336), generator=torch.Generator().manual_seed(0))
    theirs = pixels / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    theirs /= torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    ours = pixels - torch.tensor(mean)[:, None, None]
    recorder = Recorder()
    with torch.no_grad():
        x = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(theirs))))
        expected = classifier.layer4(classifier.layer3(classifier.layer2(classifier.layer1(x))))
        features(ours, recorder)
    found = recorder.layers["res5"]
    # float32 through 20 convolutions where the zero padding of the stem is out of reach.
    inner = (..., slice(8, -8), slice(8, -8))
    assert expected[inner].shape[2:] == (4, 5)
    assert expected[inner].std((2, 3)).mean() > 0.01
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-4, atol=1e-4)
    # Elsewhere the padding is another grey, by less than 1 of 255.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * expected.max().item())


def test_names_of_the_real_resnet101_are_all_known() -> None:
    with torch.device("meta"):
        state, features = resnet101().state_dict(), FeatureNetwork((3, 4, 23, 3), 64, 1024, "3x3")
    shapes = [tuple(v.shape) for k, v in state.items() if "num_batches" not in k and k[:3] != "fc."]
    ours = [tuple(v.shape) for k, v in features.state_dict().items() if "feat_conv" not in k]
    assert shapes == ours


def test_torchvision_needs_its_stride_placement(tiny_model: HPVODModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="stride_in is '1x1'"):
        load_torchvision_resnet(tiny_model.features, tmp_path / "resnet.pth")


@pytest.fixture
def features() -> FeatureNetwork:
    return FeatureNetwork((1, 1, 1, 1), 64, 16, "3x3")


def test_torchvision_of_another_depth(
    classifier: ResNet, features: FeatureNetwork, tmp_path: Path
) -> None:
    path = write(classifier.state_dict(), tmp_path / "resnet.pth")
    before = features.conv1.conv.weight.clone()
    with pytest.raises(WeightsError, match=rf"^{path}: .*res3\.1\.conv1.* not in the model$"):
        load_torchvision_resnet(features, path)
    assert torch.equal(features.conv1.conv.weight, before)


def test_torchvision_pickle_is_not_executed(features: FeatureNetwork, tmp_path: Path) -> None:
    path, proof = tmp_path / "resnet.pth", tmp_path / "executed"
    torch.save({"conv1.weight": RunsCode(proof)}, path)
    with pytest.raises(WeightsError, match=rf"^{path}: holds more than tensors"):
        load_torchvision_resnet(features, path)
    assert not proof.exists()


def test_torchvision_truncated(
    classifier: ResNet, features: FeatureNetwork, tmp_path: Path
) -> None:
    path = write(classifier.state_dict(), tmp_path / "resnet.pth")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=rf"^{path}: is truncated or damaged$"):
        load_torchvision_resnet(features, path)


def test_torchvision_text_file(features: FeatureNetwork, tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    path.write_text("these are no weights\n" * 100)
    with pytest.raises(WeightsError, match=rf"^{path}: is not a file of torch.save's$"):
        load_torchvision_resnet(features, path)


def test_torchvision_missing_file(features: FeatureNetwork, tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    with pytest.raises(WeightsError, match=rf"^{path}: no such file$"):
        load_torchvision_resnet(features, path)


def test_torchvision_without_a_state_dict(features: FeatureNetwork, tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save([1, 2, 3], path)
    with pytest.raises(WeightsError, match=rf"^{path}: holds no state dict$"):
        load_torchvision_resnet(features, path)


def test_torchvision_pickle_of_something_else(features: FeatureNetwork, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({1: torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=rf"^{path}: holds no state dict$"):
        load_torchvision_resnet(features, path)
