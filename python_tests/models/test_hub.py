# SPDX-License-Identifier: MIT
import json

import pytest
import torch
from helpers.small_models import small_model
from huggingface_hub import ModelCard

from poseren_ext.models import PoseREN, load
from poseren_ext.models.hub import HubPoseREN


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def assert_same(model, other):
    weights = other.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert other.config == model.config


def test_folder_and_back(tmp_path):
    model = small_model("icvl16")
    model.mean_pose.normal_()
    HubPoseREN.of(model).save_pretrained(tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    loaded = HubPoseREN.from_pretrained(tmp_path / "folder")
    assert isinstance(loaded, PoseREN)
    assert not loaded.training
    assert_same(model, loaded)
    assert_same(model, load(tmp_path / "folder" / "model.safetensors"))
    loaded.save_pretrained(tmp_path / "again")
    assert_same(model, HubPoseREN.from_pretrained(str(tmp_path / "again")))


def test_configuration_is_readable(tmp_path):
    HubPoseREN.of(small_model()).save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    assert (about["format"], about["format_version"], about["model"]["skeleton"]) == ("poseren_ext", "4", "nyu14")


def test_card(tmp_path):
    model = HubPoseREN.of(small_model("icvl16"))
    about = {"description": "Trained on nothing.", "license": "mit", "repo_id": "someone/hand"}
    model.save_pretrained(tmp_path, model_card_kwargs=about)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "poseren_ext"
    assert card.data.license == "mit"
    for text in (
        "icvl16",
        "left",
        "150 mm",
        "96x96",
        "thumb root",
        "Trained on nothing.",
        'Estimator("someone/hand"',
    ):
        assert text in card.text


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        HubPoseREN.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        HubPoseREN.from_pretrained(tmp_path)
