# SPDX-License-Identifier: MIT
"""Model files of every format version load and give the same results."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from poseren_ext.models import load

FIXTURES = Path(__file__).parents[1] / "fixtures"
HASHES = {
    "format_1_float32": "5f12e8c7960ef2f28ac0ac51fd60a876254cedc72442313d8330f899535137f6",
    "format_2_int8": "81dc57d92fe6716bb93fe6527f29ce6174213b95eca77b2b7f191d877ebf411e",
    "format_4_int4": "fdde0170be7a8428bc8276b8b359e0b554bc88312e5fa74335e4f57af662ad94",
    "format_1_float16": "ff2614d1a123fe32388d0401075944a45f2a37826d7ba6c84670ebf870409313",
}


@pytest.mark.parametrize("name", HASHES)
def test_fixture_is_as_it_was_written(name):
    assert hashlib.sha256((FIXTURES / f"{name}.safetensors").read_bytes()).hexdigest() == HASHES[name]


@pytest.mark.parametrize("name", HASHES)
def test_old_file_loads_and_gives_what_it_gave(name):
    model = load(FIXTURES / f"{name}.safetensors")
    assert (model.skeleton.name, model.config.hand, model.config.cube) == ("icvl16", "left", 140.0)
    assert model.config.weight_dtype == name.split("_")[2]
    assert model.mean_pose.abs().max() > 0.1
    expected = load_file(FIXTURES / f"{name}_expected.safetensors")
    with torch.inference_mode():
        poses = model(expected["crop"].float(), stages=3)
    torch.testing.assert_close(poses, expected["poses"], rtol=1e-4, atol=1e-5)
