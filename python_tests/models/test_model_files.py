# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.small_models import small_model
from safetensors import safe_open
from safetensors.torch import save_file

from poseren_ext.models import PackedPoseREN, PoseREN, load, round_to_bytes, round_to_nibbles, save
from poseren_ext.models.quantization import restored_rows, stored_rows


@pytest.fixture
def model() -> PoseREN:
    model = small_model()
    model.mean_pose.uniform_(-0.5, 0.5)
    return model


def written(model: PoseREN, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a saved model, to be spoilt and written again."""
    save(model, path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("weight_dtype", ["float32", "float16"])
def test_there_and_back(model: PoseREN, tmp_path: Path, weight_dtype: str) -> None:
    model.config = replace(model.config, weight_dtype=weight_dtype)
    path = tmp_path / "model.safetensors"
    save(model, path)
    again = load(path)
    assert again.config == model.config
    assert not again.training
    assert again.skeleton == model.skeleton
    assert torch.equal(again.mean_pose, model.mean_pose)
    for name, parameter in model.named_parameters():
        loaded = again.get_parameter(name)
        expected = parameter.half().float() if weight_dtype == "float16" else parameter
        assert loaded.dtype == torch.float32
        assert loaded.requires_grad
        assert torch.equal(loaded, expected)
    if weight_dtype == "float32":
        crop = torch.randn(2, 1, 96, 96)
        assert torch.equal(again(crop), model(crop))


def test_half_the_weights_take_half_the_space(model: PoseREN, tmp_path: Path) -> None:
    sizes = []
    for weight_dtype in ("float32", "float16"):
        model.config = replace(model.config, weight_dtype=weight_dtype)
        save(model, tmp_path / weight_dtype)
        sizes.append((tmp_path / weight_dtype).stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def test_int8_rows_are_lossless_for_a_rounded_model_and_take_a_quarter_of_the_space(
    model: PoseREN, tmp_path: Path
) -> None:
    round_to_bytes(model)
    save(model, tmp_path / "float32")
    model.config = replace(model.config, weight_dtype="int8")
    save(model, tmp_path / "int8")
    again = load(tmp_path / "int8")
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    fully_connected = sum(weight.numel() for name, weight in model.named_parameters() if name.endswith("_weight"))
    saved = (tmp_path / "float32").stat().st_size - (tmp_path / "int8").stat().st_size
    assert saved > 2.8 * fully_connected
    packed, expected = (PackedPoseREN(which, "int8").head for which in (again, model))
    assert torch.equal(packed.finger_weight, expected.finger_weight)
    assert torch.equal(packed.finger_scale, expected.finger_scale)


def test_4_bit_rows_are_lossless_for_a_rounded_model_and_halve_the_region_layers(
    model: PoseREN, tmp_path: Path
) -> None:
    before = model.head.region_weight.detach().clone()
    round_to_nibbles(model)
    rounded = model.head.region_weight.detach().clone()
    error = (rounded - before).square().mean().sqrt() / before.square().mean().sqrt()
    assert 0.02 < float(error) < 0.13
    round_to_nibbles(model)
    assert torch.equal(model.head.region_weight, rounded)  # nothing is left to round
    sizes = {}
    for weight_dtype in ("int8", "int4"):
        model.config = replace(model.config, weight_dtype=weight_dtype)
        save(model, tmp_path / weight_dtype)
        sizes[weight_dtype] = (tmp_path / weight_dtype).stat().st_size
        again = load(tmp_path / weight_dtype)
        assert again.config == model.config
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
    numbers = {
        end: sum(p.numel() for n, p in model.named_parameters() if n.endswith(end))
        for end in (".weight", "region_weight")
    }
    assert sizes["int8"] - sizes["int4"] > 2 * numbers[".weight"] + 0.45 * numbers["region_weight"]
    exact, packed = PackedPoseREN(model).head, PackedPoseREN(model, "int8").head
    assert torch.equal(packed.region_weight.float() * packed.region_scale[..., None], exact.region_weight.float())


@pytest.mark.parametrize(
    ("inputs", "factors", "numbers"), [(6, [18, 6, 1], [1, -7, 6, 0, 0, 0]), (9, [18, 1, 1], [1, -7, 2, *[0] * 6])]
)
def test_4_bit_rows_by_hand(inputs: int, factors: list[int], numbers: list[int]) -> None:
    weight = torch.zeros(1, 2, inputs)
    weight[0, 0, :3] = torch.tensor([18.0, -126.0, 36.0])  # steps of 1
    weight[0, 1, -1] = 0.75  # 96 steps of 1/128: six times 16
    parts = stored_rows(weight, 3)
    assert parts is not None
    assert parts["scale"].tolist() == [[1.0, 1 / 128]]
    assert parts["factor"].tolist() == [[factors, [1, 1, 16]]]
    assert [int(parts["weight"][0, 0, k // 2] >> 4 * (k % 2) & 15) - 8 for k in range(inputs)] == numbers
    assert torch.equal(restored_rows(parts, inputs), weight)
    for other in (0.7, torch.nan):
        weight[0, 1, -1] = other
        assert stored_rows(weight, 3) is None
        assert stored_rows(weight) is None


@pytest.mark.parametrize(
    ("weight_dtype", "changed"),
    [("int8", "head.finger_weight"), ("int4", "head.region_weight"), ("int4", "backbone.conv4.weight")],
)
def test_weights_that_rows_of_integers_would_change_are_written_in_float32(
    model: PoseREN, tmp_path: Path, weight_dtype: str, changed: str
) -> None:
    """A bundled model after fine-tuning."""
    (round_to_nibbles if weight_dtype == "int4" else round_to_bytes)(model)
    model.config = replace(model.config, weight_dtype=weight_dtype)
    with torch.no_grad():
        weight = model.get_parameter(changed)
        weight.mul_(torch.rand_like(weight))
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config == replace(model.config, weight_dtype="float32")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    with torch.no_grad():
        model.init.head.region_weight[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        save(model, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_int8_rows_without_their_scales_are_refused(model: PoseREN, tmp_path: Path) -> None:
    round_to_bytes(model)
    model.config = replace(model.config, weight_dtype="int8")
    tensors, metadata = written(model, tmp_path / "model")
    scale = tensors.pop("head.finger_scale")
    for message, contents in {
        "tensor head.finger_scale is missing": tensors,
        "head.finger_weight holds values that are NaN": tensors
        | {"head.finger_scale": torch.full_like(scale, torch.nan)},
    }.items():
        save_file(contents, tmp_path / "model", metadata)
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "model")


def test_any_memory_format_is_saved(model: PoseREN, tmp_path: Path) -> None:
    save(model.to(memory_format=torch.channels_last), tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").backbone.conv4.weight, model.backbone.conv4.weight)


def test_a_file_stands_alone_in_its_folder_and_has_the_usual_permissions(model: PoseREN, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    save(model, str(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) & ~0o666 == 0
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) & 0o600 == 0o600 & ~mask


def test_a_fault_while_saving_leaves_the_older_file(
    model: PoseREN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    save(model, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(small_model(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("value", "weight_dtype"), [(float("nan"), "float32"), (float("inf"), "float32"), (1e6, "float16")]
)
def test_weights_that_no_file_may_hold(model: PoseREN, tmp_path: Path, value: float, weight_dtype: str) -> None:
    model.config = replace(model.config, weight_dtype=weight_dtype)
    with torch.no_grad():
        model.head.finger_bias[1, 2] = value
    with pytest.raises(ValueError, match=r"head.finger_bias holds values that are NaN or infinite as torch.float"):
        save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing(model: PoseREN, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; create it first"):
        save(model, tmp_path / "nowhere" / "model")
    with pytest.raises(FileNotFoundError, match=r"no model file .*nothing; check the path"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is not a file"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_truncated_file(model: PoseREN, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model"
    save(model, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model is not a readable safetensors file .*Expected a file written by"):
        load(path)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_is_never_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    writers = (lambda path: torch.save(Bomb(trace), path), lambda path: path.write_bytes(pickle.dumps(Bomb(trace))))
    for number, write in enumerate(writers):
        path = tmp_path / f"foreign{number}.pth"
        write(path)
        with pytest.raises(ValueError, match=rf"foreign{number}.pth is not a readable safetensors file"):
            load(path)
    assert not trace.exists()


@pytest.mark.parametrize("junk", [b"P6 1 1 255 abc", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}", b"not a model at all"])
def test_junk(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(junk)
    with pytest.raises(ValueError, match=r"junk .*Expected a file written by poseren_ext.models.save"):
        load(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"format": "pt"}, "its format is 'pt', expected 'poseren_ext'"),
        (
            {"format_version": "5"},
            "its format_version is '5', expected one of 1, 2, 3, 4; a newer poseren_ext may be needed",
        ),
        ({"config": "{}"}, "ModelConfig: missing field 'skeleton'"),
        ({"config": "{"}, "holds no model for this version"),
        ({"config": "[" * 100_000}, "Expected a file written by"),
    ],
)
def test_metadata_of_another_kind(model: PoseREN, tmp_path: Path, edit: dict[str, str], message: str) -> None:
    path = tmp_path / "model"
    tensors, metadata = written(model, path)
    save_file(tensors, path, metadata | edit)
    with pytest.raises(ValueError, match=f"model .*{message}"):
        load(path)
    for missing in edit:
        save_file(tensors, path, {name: text for name, text in metadata.items() if name != missing})
        with pytest.raises(ValueError, match="Expected a file written by"):
            load(path)


def test_a_configuration_too_large_to_be(model: PoseREN, tmp_path: Path) -> None:
    path = tmp_path / "model"
    tensors, metadata = written(model, path)
    for size in (10**6, 10**12, 10**30):
        metadata["config"] = model.config.to_json().replace('"widths": [12, 10]', f'"widths": [{size}, 10]')
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="Expected a file written by"):
            load(path)


def test_tensors_that_do_not_fit(model: PoseREN, tmp_path: Path) -> None:
    path = tmp_path / "model"
    tensors, metadata = written(model, path)
    name = "head.region_weight"
    spoilt = {
        f"tensor {name} is missing": {k: t for k, t in tensors.items() if k != name},
        "tensor extra is unexpected": tensors | {"extra": torch.zeros(1)},
        rf"tensor {name} is \(\[11, 12, 391\], 'F32'\), expected \(\[11, 12, 392\], 'F32'\)": tensors
        | {name: tensors[name][..., 1:].contiguous()},
        rf"tensor {name} is \(\[11, 12, 392\], 'F16'\), expected": tensors | {name: tensors[name].half()},
        f"{name} holds values that are NaN or infinite": tensors | {name: torch.full_like(tensors[name], torch.nan)},
        "and 42 more faults": {},
    }
    for message, contents in spoilt.items():
        save_file(contents, path, metadata)
        with pytest.raises(ValueError, match=f"{message}.*Expected a file written by"):
            load(path)
