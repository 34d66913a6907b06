# SPDX-License-Identifier: MIT
"""`poseren hub` and models of the Hub by name, against a local server with the Hub's interface."""

import sys

import pytest
import torch
from helpers.docs_blocks import block_not_run, changed, commands
from helpers.hub_server import hub_server
from helpers.small_models import save_small_model
from huggingface_hub import ModelCard, constants

from poseren_ext.models import load, load_model
from poseren_ext.models.hub import download


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub, and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        download.cache_clear()
        yield server
    download.cache_clear()


@pytest.fixture
def go_offline(monkeypatch):
    def call():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        download.cache_clear()

    return call


def same_weights(one, other):
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


def test_a_pushed_model_predicts_by_its_name_and_then_without_a_connection(
    poseren, hub, go_offline, small_model_file, disc_recording, tmp_path
):
    result = poseren("hub", "push", small_model_file, "someone/hand", "--license", "mit")
    assert (result.code, result.err) == (0, ""), result.err
    assert "--model someone/hand" in result.out
    assert sorted(hub.commits["someone/hand"][0]) == ["README.md", "config.json", "model.safetensors"]
    assert same_weights(load(small_model_file), load_model("someone/hand"))

    def joints(model, out):
        options = ("--camera", "120,120,80,60", "--model", model, "--out", tmp_path / out)
        assert poseren("predict", disc_recording, *options).code == 0
        return (tmp_path / out).read_bytes()

    expected = joints(small_model_file, "file.txt")
    assert joints("someone/hand", "hub.txt") == expected
    go_offline()
    before = len(hub.requests)
    assert joints("someone/hand", "offline.txt") == expected
    assert len(hub.requests) == before


def test_the_commands_on_the_page(poseren, hub, disc_recording, tmp_path, monkeypatch):
    """docs/guides/export.md; the token stands in for the login."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "compact").mkdir(parents=True)
    save_small_model(tmp_path / "runs" / "compact" / "model.safetensors")
    disc_recording.rename(tmp_path / "frames")
    login, push, predict, pull = commands(block_not_run("guides/export.md", "hub push"))
    assert login == "hf auth login"
    assert poseren(*changed(push)[1:]).code == 0
    hub.tags["v1"] = 1
    done = poseren(*changed(predict, camera="120,120,80,60")[1:])
    assert done.code == 0, done.err
    assert poseren(*changed(pull)[1:]).code == 0
    assert same_weights(load(tmp_path / "my-hand.safetensors"), load("runs/compact/model.safetensors"))


def test_a_revision_pins_the_model(poseren, hub, tmp_path):
    first, second = save_small_model(tmp_path / "1.safetensors"), save_small_model(tmp_path / "2.safetensors", "icvl16")
    for file in (first, second):
        assert poseren("hub", "push", file, "someone/hand").code == 0
    result = poseren("hub", "pull", "someone/hand@1", "--out", tmp_path / "old.safetensors")
    assert result.out.split(": ")[1].startswith("msra21")
    assert same_weights(load(first), load(tmp_path / "old.safetensors"))
    assert same_weights(load(second), load_model("someone/hand"))
    assert "exists" in poseren("hub", "pull", "someone/hand@1", "--out", tmp_path / "old.safetensors").error


def test_the_card_repeats_the_record_of_the_training_run(poseren, hub, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    save_small_model(run / "model.safetensors")
    (run / "config.toml").write_text('recipe = "compact"\nseed = 3\n')
    (run / "log.csv").write_text("phase,step,loss,validation_mm\ninit,10,0.5,30.1\nrefine,20,0.4,30.1 12.5\n")
    assert poseren("hub", "push", run, "someone/hand", "--license", "mit").code == 0
    card = ModelCard(hub.commits["someone/hand"][0]["README.md"].decode())
    assert (card.data.license, card.data.library_name) == ("mit", "poseren_ext")
    for text in ("msra21", "right", "seed = 3", "refine step 20", "30.1, 12.5", 'Estimator("someone/hand"'):
        assert text in card.text, text


def test_the_card_of_a_bundled_model_is_its_own(poseren, hub):
    assert poseren("hub", "push", "demo", "someone/demo").code == 0
    card = hub.commits["someone/demo"][0]["README.md"].decode()
    assert "## Accuracy" in card
    assert "# demo: a compact" not in card  # one title
    assert same_weights(load_model("demo"), load_model("someone/demo"))


def test_what_is_not_on_the_hub_or_not_reachable_is_one_line(poseren, hub, go_offline, small_model_file):
    pull = lambda name: poseren("hub", "pull", name).error  # noqa: E731
    assert "no such model repository" in pull("someone/nothing")
    poseren("hub", "push", small_model_file, "someone/hand")
    assert "no revision '7'" in pull("someone/hand@7")
    hub.commits["someone/other"] = [{"weights.bin": b""}]
    assert "has no model.safetensors" in pull("someone/other")
    hub.commits["someone/hostile"] = [{"model.safetensors": b"rubbish"}]
    assert "not a readable safetensors file" in pull("someone/hostile")
    go_offline()
    assert "cannot be reached" in pull("someone/nothing")
    assert poseren("hub", "push", small_model_file, "hand").code == 2


def test_files_and_folders_come_before_the_hub(hub, small_model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    save_small_model(tmp_path / "runs" / "mine" / "model.safetensors")
    assert same_weights(load_model("runs/mine"), load_model(small_model_file))
    with pytest.raises(FileNotFoundError, match=r"no model at 'runs/other\.safetensors'"):
        load_model("runs/other.safetensors")
    assert hub.requests == []


def test_without_huggingface_hub_the_message_names_the_extra(poseren, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "poseren_ext.models.hub")
    assert "pip install 'poseren_ext[hub]'" in poseren("hub", "pull", "someone/hand").error
