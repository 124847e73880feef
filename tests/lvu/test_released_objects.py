"""The release's Object Transformer in our module, against outputs of its own code."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from hiermovie.app.cli import main
from hiermovie.lvu import (
    Instances,
    collate_tokens,
    load_objects,
    load_released_objects,
    tokens_of,
)

STORED = load_file(ROOT / "tests/fixtures/lvu_object_transformer.safetensors")


@pytest.fixture
def released(tmp_path):
    names = {k: v.float() for k, v in STORED.items() if k.startswith("state.")}
    state = {k.removeprefix("state."): v for k, v in names.items()}
    torch.save(state, tmp_path / "mask_compact.bin")
    return load_released_objects(tmp_path / "mask_compact.bin", heads=2, window_s=10)


def window(cfg):
    counted = [STORED[name].numpy().astype(np.int64) for name in ("tracks", "shots")]
    seconds = STORED["seconds"].numpy().astype(np.int64)
    boxes, features = STORED["boxes"].numpy(), STORED["features"].numpy()
    return tokens_of(Instances(seconds, boxes, *counted, features), 3, cfg)


def difference(a, b) -> float:
    return (a - b).abs().max().item()


@torch.no_grad()
def test_pooled_vector_and_every_instance_equal_the_release(released):
    model, heads = released
    pooled, each = model(*collate_tokens([window(model.cfg)]))
    assert difference(pooled, STORED["pooled"]) < 1e-5
    assert difference(each, STORED["each"]) < 1e-5
    assert difference(heads["predict"](each), STORED["action"]) < 1e-5
    assert difference(heads["project"](pooled), STORED["same"]) < 1e-5


@torch.no_grad()
def test_the_program_converts_it(tmp_path):
    state = {k.removeprefix("state."): v for k, v in STORED.items() if k.startswith("state.")}
    torch.save({k: v.float() for k, v in state.items()}, tmp_path / "mask.bin")
    sizes = ("--heads", "2", "--window-s", "10")
    out = str(tmp_path / "objects.safetensors")
    assert main(["checkpoint", "objects", str(tmp_path / "mask.bin"), out, *sizes]) == 0
    model = load_objects(out, dim=6).eval()
    pooled, _ = model(*collate_tokens([window(model.cfg)]))
    assert difference(pooled, STORED["pooled"]) < 1e-5


@torch.no_grad()
def test_what_is_not_there_changes_nothing(released):
    "The same window beside a longer one: its empty places come before the end sign."
    model, _ = released
    short = window(model.cfg)
    longer = tuple(np.concatenate([part, part]) for part in short)
    pooled, each = model(*collate_tokens([short, longer]))
    assert difference(pooled[:1], STORED["pooled"]) < 1e-5
    assert difference(each[:1, :4], STORED["each"]) < 1e-5


@torch.no_grad()
def test_the_end_sign_and_the_middle_shot_matter(released):
    model, _ = released
    features, code, numbers = window(model.cfg)
    other = numbers.copy()
    other[:, 6] += 2  # the middle of the shot numbers 0 to 9 is 4, the middle second lies in 2
    pooled = model(*collate_tokens([(features, code, other)]))[0]
    assert difference(pooled, STORED["pooled"]) > 1e-3
    model.end.zero_()
    pooled = model(*collate_tokens([(features, code, numbers)]))[0]
    assert difference(pooled, STORED["pooled"]) > 1e-3
