from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from hpvod.data import DataError, FlyingChairs, write_flow
from hpvod.networks.flow import FLOW_SCALE, FlowNetwork
from hpvod.tensor_file import WeightsError
from hpvod.training.flow_pretraining import FlowSample, FlowTask, cut, mirrored, recoloured
from hpvod.training.flow_weights import load_flow_weights, save_flow_weights

from .random_data import random_image

WIDTH = 0.0625
CPU = torch.device("cpu")


def network_of(seed=0, width=WIDTH, scale_channels=None, matching=False):
    torch.manual_seed(seed)
    return FlowNetwork(width, scale_channels, matching=matching)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 109)])
@pytest.mark.parametrize(
    ("matching", "strides"),
    [(False, (128, 64, 32, 16, 16)), (True, (256, 128, 64, 32, 16))],
)
def test_levels_are_flows_from_coarse_to_fine_and_end_with_the_networks(
    height, width, matching, strides
):
    network = network_of(matching=matching)
    assert network.level_strides == strides
    current, key = random_image(height, width, batch=2).split(1)
    with torch.no_grad():
        levels, matched = network.levels(current, key)
        flow = network(current, key).flow
    expected = [(-(-height // s), -(-width // s)) for s in strides]
    assert [tuple(level.shape) for level in levels] == [(1, 2, *size) for size in expected]
    torch.testing.assert_close(flow, levels[-1] * FLOW_SCALE)
    assert (None if matched is None else matched.shape) == (levels[-1].shape if matching else None)


def moved(flow=(3.0, -2.0), size=(40, 56)):
    """A smooth scene, the same a few pixels on, and that flow."""
    height, width = size
    scene = F.interpolate(random_image(8, 8), (height + 40, width + 40), mode="bicubic")[0]
    dx, dy = (int(v) for v in flow)
    current = scene[:, 20 : 20 + height, 20 : 20 + width]
    # What lies at p in the current image lies at p + flow in the key image.
    key = scene[:, 20 - dy : 20 - dy + height, 20 - dx : 20 - dx + width]
    return FlowSample(current, key, torch.tensor(flow)[:, None, None].expand(2, *size).clone())


def misfit(sample, border=8):
    """The mean difference of the current image and the key image at p + flow."""
    _, height, width = sample.current.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = (columns + sample.flow[0]) / (width - 1) * 2 - 1
    y = (rows + sample.flow[1]) / (height - 1) * 2 - 1
    found = F.grid_sample(
        sample.key.float()[None], torch.stack((x, y), -1)[None], "bilinear", align_corners=True
    )
    inner = slice(border, -border)
    return (found[0] - sample.current.float())[:, inner, inner].abs().mean().item()


def test_the_flow_of_an_augmented_sample_still_fits():
    sample = moved()
    other = moved((3.0, 2.0))
    assert misfit(sample) < 0.1
    # What a wrong sign would come to.
    assert misfit(FlowSample(sample.current, sample.key, -sample.flow)) > 5
    for changed in (
        mirrored(sample, 0),
        mirrored(sample, 1),
        recoloured(sample, [2, 0, 1]),
        cut(sample, 0.0, 0.0),
        cut(sample, 1.0, 0.5),
        mirrored(cut(other, 0.3, 0.9), 0),
    ):
        assert changed.current.shape[1:] == changed.key.shape[1:] == changed.flow.shape[1:]
        assert misfit(changed) < 0.8


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_twice_is_the_sample(axis):
    sample = moved()
    once = mirrored(sample, axis)
    assert once.flow[axis, 0, 0] == -sample.flow[axis, 0, 0]
    assert once.flow[1 - axis, 0, 0] == sample.flow[1 - axis, 0, 0]
    again = mirrored(once, axis)
    for name in ("current", "key", "flow"):
        assert torch.equal(getattr(again, name), getattr(sample, name))


def test_recoloured_moves_channels_of_both_images():
    sample = moved()
    other = recoloured(sample, [1, 2, 0])
    for name in ("current", "key"):
        assert torch.equal(getattr(other, name)[0], getattr(sample, name)[1])
        assert torch.equal(getattr(other, name)[2], getattr(sample, name)[0])


def test_cut_is_five_sixths_of_the_sample_at_its_place():
    sample = moved(size=(60, 90))
    for down, right, top, left in ((0.0, 0.0, 0, 0), (1.0, 1.0, 10, 15), (0.5, 0.2, 5, 3)):
        part = cut(sample, down, right)
        for name in ("current", "key", "flow"):
            whole = getattr(sample, name)
            assert torch.equal(getattr(part, name), whole[:, top : top + 50, left : left + 75])


def write_chairs(folder, sample, count=2):
    for number in range(1, count + 1):
        for which, image in ((1, sample.current), (2, sample.key)):
            pixels = (image + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / f"{number:05d}_img{which}.ppm")
        write_flow(
            folder / f"{number:05d}_flow.flo", sample.flow.permute(1, 2, 0).contiguous().numpy()
        )
    return FlyingChairs(folder, "all")


def test_samples_depend_on_seed_position_and_attempt(tmp_path):
    chairs = write_chairs(tmp_path, moved())
    task = FlowTask(network_of(), chairs, seed=1)
    again = FlowTask(network_of(), chairs, seed=1)
    flows = [task.read(i, 0).flow for i in range(8)]
    assert all(torch.equal(again.read(i, 0).flow, flow) for i, flow in enumerate(flows))
    images = [task.read(i, 0).current for i in range(8)]
    assert not torch.equal(task.read(0, 1).current, images[0])
    assert not torch.equal(FlowTask(network_of(), chairs, seed=2).read(0, 0).current, images[0])
    # Mirrored about every second time, along either axis.
    for axis in (0, 1):
        negative = [bool((flow[axis] < 0).all()) for flow in flows]
        assert any(negative) and not all(negative)
    assert len({tuple(image.flatten()[:99].tolist()) for image in images}) == 8
    assert all(misfit(task.read(i, 0)) < 2 for i in range(8))


def test_a_damaged_file_is_named(tmp_path):
    chairs = write_chairs(tmp_path, moved(), count=1)
    (tmp_path / "00001_img2.ppm").write_bytes(b"P6 56")
    with pytest.raises(DataError, match=r"00001_img2\.ppm: cannot be read as an image"):
        FlowTask(network_of(), chairs, seed=0).read(0, 0)


@pytest.mark.parametrize("matching", [False, True])
def test_losses_are_end_point_errors_of_all_levels(tmp_path, matching):
    sample = moved((4.0, -3.0), (64, 96))
    network = network_of(matching=matching)
    task = FlowTask(network, write_chairs(tmp_path, sample), seed=0)
    with torch.no_grad():  # A network that says (8, 0) pixels at every level.
        for module in (network.flow, *(level.flow for level in network.decoder.values())):
            module.weight.zero_()
            module.bias.copy_(torch.tensor([8 / 40, 0.0]))
        if matching:  # What looks the same everywhere is found in the middle of the image.
            network.descriptor.weight.zero_()
        [(part, count)] = task.parts([sample])
        total, error = task.losses(part, CPU).tolist()
    assert count == 1
    assert error == pytest.approx(5)
    expected = (0.25 + 0.25 + 0.25 + 0.5 + 1) * 5 / 40
    if matching:
        y, x = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
        motion = 16 * torch.stack((2.5 - x, 1.5 - y))
        errors = (motion - torch.tensor([4.0, -3.0]).view(2, 1, 1)).norm(dim=0)
        expected += 0.5 * float(errors.mean()) / 40
    assert total == pytest.approx(expected)


def test_pairs_of_a_size_are_one_part_whose_losses_are_their_means(tmp_path):
    samples = [moved((4.0, -3.0), (64, 96)), moved((1.0, 1.0)), moved((-2.0, 5.0), (64, 96))]
    task = FlowTask(network_of(), write_chairs(tmp_path, samples[0]), seed=0)
    alone = [task.losses(part, CPU) for sample in samples for part, _ in task.parts([sample])]
    parts = list(task.parts(samples))
    assert [count for _, count in parts] == [2, 1]
    together, other = (task.losses(part, CPU) for part, _ in parts)
    torch.testing.assert_close(together, (alone[0] + alone[2]) / 2)
    torch.testing.assert_close(other, alone[1])


@pytest.mark.parametrize("matching", [False, True])
def test_all_is_trained_but_the_heads_for_q_and_the_scale(tmp_path, matching):
    sample = moved(size=(64, 96))
    network = network_of(scale_channels=8, matching=matching)
    task = FlowTask(network, write_chairs(tmp_path, sample), seed=0)
    [(part, _)] = task.parts([sample])
    task.losses(part, CPU)[0].backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    own = {"quality.weight", "quality.bias", "scale.weight", "scale.bias"}
    assert reached == {name for name, _ in network.named_parameters()} - own
    assert len(task.parameters) == len(reached)


def test_a_pair_is_learnt_by_heart(tmp_path):
    sample = moved((6.0, -4.0), (64, 96))
    task = FlowTask(network_of(), write_chairs(tmp_path, sample), seed=0)
    for group in task.optimizer.param_groups:
        group["lr"] = 1e-3
    [(part, _)] = task.parts([sample])
    errors = []
    for _ in range(40):
        task.optimizer.zero_grad()
        total, error = task.losses(part, CPU)
        total.backward()
        task.optimizer.step()
        errors.append(error.item())
    assert errors[0] > 5
    assert errors[-1] < 0.3 * errors[0]


def test_weights_go_into_a_detectors_network_without_its_own_heads(tmp_path):
    path = tmp_path / "flow.safetensors"
    network, other = network_of(0), network_of(1, scale_channels=8)
    own = {name: value.clone() for name, value in other.state_dict().items()}
    save_flow_weights(network, path)
    load_flow_weights(other, path)
    for name, value in other.state_dict().items():
        source = own if name.startswith(("quality.", "scale.")) else network.state_dict()
        assert torch.equal(value, source[name])
    images = random_image(64, 96, batch=2).split(1)
    with torch.no_grad():
        assert torch.equal(other(*images).flow, network(*images).flow)


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "flow.safetensors"
    with pytest.raises(WeightsError, match=rf"^{path}: no such file$"):
        load_flow_weights(network_of(), path)
    save_flow_weights(network_of(width=0.125), path)
    with pytest.raises(WeightsError, match=rf"^{path}: .*another architecture: encoder\.conv1"):
        load_flow_weights(network_of(), path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=rf"^{path}: is no file of pretrain-flow's$"):
        load_flow_weights(network_of(), path)
    path.write_bytes(b"\x00")
    with pytest.raises(WeightsError, match=rf"^{path}: is not a safetensors file$"):
        load_flow_weights(network_of(), path)
    with pytest.raises(WeightsError, match=r"none.flow\.safetensors: cannot be written"):
        save_flow_weights(network_of(), tmp_path / "none" / "flow.safetensors")
