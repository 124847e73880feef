"""Checkpoints of others: features equal those of the model that they come from; what does not fit
is listed; nothing is executed.
"""

import pickle
import re

import numpy as np
import pytest
import torch
from conftest import run
from pyslowfast_like import BLOCKS, Like, trained_looking

from hiermovie.app import main
from hiermovie.backbone import SlowFast, SlowFastConfig, load_backbone, load_foreign, save_backbone
from hiermovie.base import InputError, read_tensors

pytestmark = pytest.mark.slow

CLIP = torch.randn(2, 3, 32, 64, 64, generator=torch.Generator().manual_seed(1))
SLOW = torch.linspace(0, 31, 8).long()
CONFIG = (
    "TRAIN: {DATASET: kinetics}\nDATA:\n  NUM_FRAMES: 32\n  SAMPLING_RATE: 2\n  TEST_CROP_SIZE: "
    "256\n  MEAN: [0.45, 0.45, 0.45]\n  STD: [0.225, 0.225, 0.225]\nSLOWFAST:\n  ALPHA: 4\n"
)


def caffe2(name):
    """A PySlowFast name as Caffe2 has it."""
    bn = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    if name.startswith("head."):
        return "pred_w" if name.endswith("weight") else "pred_b"
    if m := re.fullmatch(r"s(\d)_fuse\.(conv_f2s|bn)\.(\w+)", name):
        layer = "t_pool1" if m[1] == "1" else f"t_res{m[1]}_{BLOCKS[int(m[1]) - 2] - 1}_branch2c_bn"
        return f"{layer}_subsample_{'w' if m[2] == 'conv_f2s' else 'bn_' + bn[m[3]]}"
    if m := re.fullmatch(r"s1\.pathway(\d)_stem\.(conv|bn)\.(\w+)", name):
        return ("t_" if m[1] == "1" else "") + (
            "conv1_w" if m[2] == "conv" else f"res_conv1_bn_{bn[m[3]]}"
        )
    m = re.fullmatch(r"s(\d)\.pathway(\d)_res(\d+)\.branch(1|2\.[abc])(_bn)?\.(\w+)", name)
    return (
        "t_" if m[2] == "1" else ""
    ) + f"res{m[1]}_{m[3]}_branch{m[4].replace('.', '')}_{'bn_' + bn[m[6]] if m[5] else 'w'}"


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    model = trained_looking(Like())
    with torch.no_grad():
        return model, model(CLIP[:, :, SLOW], CLIP)


def written(folder, kind, model):
    state = model.state_dict()
    path = folder / {"caffe2": "c2.pkl", "vidsitu": "v.pth"}.get(kind, "m.pyth")
    if kind == "caffe2":
        blobs = {caffe2(k): v.numpy() for k, v in state.items() if "num_batches" not in k}
        path.write_bytes(
            pickle.dumps(
                {
                    "blobs": blobs
                    | {"lr": np.float32(0.1), "model_iter": 7}
                    | {f"{k}_momentum": v for k, v in blobs.items()}
                },
                2,
            )
        )
    elif kind == "vidsitu":
        torch.save(
            dict(
                model_state_dict={
                    f"module.sf_mdl.{k}": v for k, v in state.items() if not k.startswith("head.")
                }
                | {
                    "module.proj_head.0.weight": torch.zeros(9, 9),
                    "module.proj_head.0.bias": torch.zeros(9),
                },
                num_it=5,
                best_met=0.4,
            ),
            path,
        )
    elif kind == "pyslowfast":
        torch.save(
            dict(
                model_state=state,
                epoch=195,
                optimizer_state=dict(state={}, param_groups=[dict(lr=0.1)]),
                cfg=CONFIG,
            ),
            path,
        )
    else:
        torch.save(
            {f"module.{k}": v for k, v in state.items()}, path
        )  # a bare state dict, saved under DDP
    return path


@pytest.mark.parametrize("kind", ["pyslowfast", "vidsitu", "caffe2", "bare"])
def test_features_equal_the_source_models(kind, source, tmp_path):
    model, want = source
    path = written(tmp_path, kind, model)
    ours, about = load_foreign(path)
    with torch.no_grad():
        got = ours(CLIP)
    assert (
        got.shape == want.shape == (2, 576)
        and ((got - want).norm(dim=1) / want.norm(dim=1)).max() < 1e-4
    )
    assert (
        ours.cfg.depth,
        ours.cfg.width,
        ours.cfg.alpha,
        ours.cfg.beta,
        ours.cfg.fusion_kernel,
        ours.cfg.frames,
    ) == (50, 16, 4, 8, 7, 32)
    assert ours.cfg.size == 224  # whatever the source was tested at
    heads = {
        "vidsitu": {"module.proj_head.0.weight", "module.proj_head.0.bias"},
        "pyslowfast": {"head.projection.weight", "head.projection.bias"},
        "bare": {"module.head.projection.weight", "module.head.projection.bias"},
    }
    assert kind == "caffe2" or set(about["dropped"]) == heads[kind]
    code, out, err = run("hiermovie", "checkpoint", "convert", path, tmp_path / "ours.safetensors")
    assert (
        code == 0
        and err == ""
        and "SlowFast, depth 50, width 16, alpha 4" in out
        and "features of 576 numbers" in out
        and "left out: " in out
    )
    with torch.no_grad():
        assert torch.equal(load_backbone(tmp_path / "ours.safetensors")(CLIP), got)
    header = read_tensors(tmp_path / "ours.safetensors")[1]
    assert (
        header["normalization"] == dict(mean=0.45, std=0.225)
        and header["sampling"]["frames"] == 32
        and header["arch"]["alpha"] == 4
        and path.name in header["about"]["source"]
    )


@pytest.mark.parametrize("stem", [1, 5])
def test_slow_only_models(stem, tmp_path):
    torch.manual_seed(0)
    model = trained_looking(Like(two=False, stem=stem))
    if stem == 5:
        model.s1.pathway0_stem.conv.stride = (2, 2, 2)  # MaCLR's: every second frame
    torch.save(
        dict(model_state=model.state_dict(), cfg=CONFIG.replace("NUM_FRAMES: 32", "NUM_FRAMES: 8")),
        tmp_path / "slow.pyth",
    )
    ours = load_backbone(tmp_path / "slow.pyth")
    with torch.no_grad():
        got, want = ours(CLIP[:, :, SLOW]), model(CLIP[:, :, SLOW])
    assert (
        type(ours).__name__ == "Slow"
        and got.shape == (2, 512)
        and ours.cfg.frames == 8
        and torch.allclose(got, want, rtol=1e-4, atol=1e-5)
    )


def test_kernel_5_means_8_fast_frames_a_slow_one(source, tmp_path):
    torch.save(trained_looking(Like(kernel=5, alpha=8)).state_dict(), tmp_path / "4x16.pyth")
    assert (
        load_backbone(tmp_path / "4x16.pyth").cfg.alpha,
        load_foreign(tmp_path / "4x16.pyth", alpha=2)[0].cfg.alpha,
    ) == (8, 2)
    assert (
        main(
            [
                "checkpoint",
                "convert",
                str(tmp_path / "4x16.pyth"),
                str(tmp_path / "o.safetensors"),
                "--alpha",
                "16",
            ]
        )
        == 0
    )
    assert load_backbone(tmp_path / "o.safetensors").cfg.alpha == 16


def test_the_papers_network():
    """34.57 M parameters with a 400-way classifier; 2048 slow numbers, then 256 fast ones."""
    model = SlowFast()
    assert (
        round((sum(p.numel() for p in model.parameters()) + 400 * 2305) / 1e6, 2) == 34.57
        and model.dim == 2304
    )
    torch.manual_seed(0)
    small, clip = SlowFast(SlowFastConfig(50, 8)).eval(), CLIP
    with torch.no_grad():
        slow, fast = small.net([clip[:, :, SLOW], clip])
        assert (
            torch.equal(small(clip), torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))
            and slow.shape[1] == 8 * fast.shape[1] == 256
        )


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_checkpoints_that_do_not_fit(source, tmp_path, capsys):
    model, _ = source
    state = model.state_dict()
    less = {k: v for k, v in state.items() if "s3_fuse.bn" not in k}
    cases = {
        "missing": (less, "missing net.blocks.2.multipathway_fusion.norm.weight"),
        "extra": (
            state | {"s4.pathway0_nonlocal1.conv_phi.weight": torch.ones(1)},
            "1 tensors do not fit: unexpected net.blocks.3.multipathway_blocks.0.res_blocks.1."
            "activation.1.conv_phi.weight",
        ),
        "shape": (
            state | {"s5.pathway0_res2.branch2.c.weight": torch.ones(3, 3, 1, 1, 1)},
            "has shape (3, 3, 1, 1, 1), expected (512, 128, 1, 1, 1)",
        ),
        "other": ({"fc.weight": torch.ones(3)}, "not a SlowFast or ResNet of depth"),
        "norm": (
            dict(model_state=state, cfg=CONFIG.replace("0.45", "0.5")),
            "normalized with mean [0.5, 0.5, 0.5]",
        ),
        "none": ({}, "no tensors in it"),
    }
    for name, (value, message) in cases.items():
        torch.save(value, tmp_path / f"{name}.pyth")
        code, err = (
            main(
                [
                    "checkpoint",
                    "convert",
                    str(tmp_path / f"{name}.pyth"),
                    str(tmp_path / "o.safetensors"),
                ]
            ),
            capsys.readouterr().err,
        )
        assert code == 2 and err.count("\n") == 1 and f"{name}.pyth" in err and message in err, err
    for name, data in (
        ("evil.pyth", dict(model_state=Runs(tmp_path / "ran"))),
        ("evil.pkl", {"blobs": Runs(tmp_path / "ran")}),
    ):
        (tmp_path / name).write_bytes(pickle.dumps(data, 2))
    torch.save(dict(model_state=Runs(tmp_path / "ran")), tmp_path / "t_evil.pyth")
    for path in (tmp_path / "evil.pyth", tmp_path / "evil.pkl", tmp_path / "t_evil.pyth"):
        with pytest.raises(InputError, match=path.name):
            load_backbone(path)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "o.safetensors").exists()


def test_converting_ours_keeps_it(tmp_path):
    torch.manual_seed(0)
    small = SlowFast(SlowFastConfig(18, 16, frames=8, size=64)).eval()
    save_backbone(tmp_path / "a.safetensors", small)
    assert (
        main(
            [
                "checkpoint",
                "convert",
                str(tmp_path / "a.safetensors"),
                str(tmp_path / "b.safetensors"),
            ]
        )
        == 0
    )
    again = load_backbone(tmp_path / "b.safetensors")
    assert again.cfg == small.cfg and all(
        torch.equal(x, y)
        for x, y in zip(again.state_dict().values(), small.state_dict().values(), strict=True)
    )


WRAPPED = [
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "model.module.",
    "model._orig_mod.",
    "_forward_module.model.",
]


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_training_tools_write_before_the_names_is_taken_off(wrapper, source, tmp_path):
    model, want = source
    torch.save(
        dict(state_dict={f"{wrapper}{k}": v for k, v in model.state_dict().items()}),
        tmp_path / "w.ckpt",
    )
    with torch.no_grad():
        got = load_backbone(tmp_path / "w.ckpt")(CLIP)
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "cfg",
    [
        "",
        "TRAIN: {}",
        "DATA:\nSLOWFAST:\n",
        "just text",
        "- a list",
        "DATA: [1]",
        "SLOWFAST: {ALPHA: 4}",
    ],
)
def test_configurations_with_missing_sections(cfg, source, tmp_path):
    model, want = source
    torch.save(dict(model_state=model.state_dict(), cfg=cfg), tmp_path / "m.pyth")
    with torch.no_grad():
        got = load_backbone(tmp_path / "m.pyth")(CLIP)
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)


def test_a_network_that_wants_blue_first_is_turned_round(source, tmp_path, capsys):
    """Its own model sees the clip with the colours the other way round; ours takes clips as all
    others do.
    """
    model, _ = source
    torch.save(
        dict(
            model_state=model.state_dict(),
            cfg=CONFIG.replace("DATA:", "DATA:\n  REVERSE_INPUT_CHANNEL: True"),
        ),
        tmp_path / "bgr.pyth",
    )
    blue_first = CLIP.flip(1)
    with torch.no_grad():
        want, got = (
            model(blue_first[:, :, SLOW], blue_first),
            load_backbone(tmp_path / "bgr.pyth")(CLIP),
        )
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)
    assert (
        main(
            [
                "checkpoint",
                "convert",
                str(tmp_path / "bgr.pyth"),
                str(tmp_path / "ours.safetensors"),
            ]
        )
        == 0
    )
    assert "trained on clips with blue first" in capsys.readouterr().out
    header = read_tensors(tmp_path / "ours.safetensors")[1]
    assert header["channels"] == "RGB" and header["about"]["trained_on"] == "BGR"
    with torch.no_grad():
        assert torch.equal(load_backbone(tmp_path / "ours.safetensors")(CLIP), got)
