"""How fast is a training step, and what does the loop around it cost? `make bench`. All sides in
one run, one after the other in turns, medians.

A narrow SlowFast (stem of 16 channels, 64 x 64, 16 frames, batch 16) on the CPU. For the paper's
R50 on a graphics card: `make bench-gpu`."""

import statistics
import time
import warnings

import torch
import torch.nn.functional as F
from rows import row
from torch import nn

from hiermovie.backbone import FewChannels, SlowFast, SlowFastConfig
from hiermovie.base import Batches, FitOptions, Stepper, fit, make_optimizer

CLASSES = 10


def plain(frames, size, width, depth, device):
    """pytorchvideo's own model with its own head, as their tutorial builds it; the slow pathway is
    taken outside.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models.slowfast import create_slowfast

    def pool(t):
        return (t, size // 32, size // 32)

    net = create_slowfast(
        model_depth=depth,
        stem_dim_outs=(width, width // 8),
        model_num_class=CLASSES,
        head_pool_kernel_sizes=(pool(frames // 4), pool(frames)),
        dropout_rate=0.0,
    ).to(device)
    index = torch.linspace(0, frames - 1, frames // 4).long().to(device)
    return net, lambda m, x, y: F.cross_entropy(m([x.index_select(2, index), x]), y)


def ours(frames, size, width, depth):
    net = SlowFast(SlowFastConfig(depth, width, frames=frames, size=size))
    return nn.Sequential(net, nn.Linear(net.dim, CLASSES))


def loss(m, b):
    return F.cross_entropy(m(b[0]).float(), b[1])


def turns(sides, repeats, device="cpu"):
    """Median seconds of each side; the sides take turns, so a busy machine is busy for all."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    for f in sides.values():
        f(), f()
    times = {k: [] for k in sides}
    for _ in range(repeats):
        for k, f in sides.items():
            wait()
            began = time.perf_counter()
            f()
            wait()
            times[k].append(time.perf_counter() - began)
    return {k: statistics.median(v) for k, v in times.items()}


def plain_sides(frames, size, width, depth, x, y):
    device = x.device.type
    net, plain_loss = plain(frames, size, width, depth, device)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)

    def step(bf16):
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = plain_loss(net, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return {"plain float32": lambda: step(False), "plain bf16": lambda: step(True)}


def steps(frames, size, width, depth, batch, device, settings, repeats, with_plain=True):
    torch.manual_seed(0)
    x, y = (
        torch.randn(batch, 3, frames, size, size, device=device),
        torch.arange(batch, device=device) % CLASSES,
    )
    sides = plain_sides(frames, size, width, depth, x, y) if with_plain else {}
    for name, o in settings.items():
        model = ours(frames, size, width, depth).to(device)
        stepper = Stepper(model, loss, make_optimizer(model, "sgd", 0.01), 0.0, o)
        sides[f"ours {name}"] = lambda stepper=stepper: stepper([((x, y), 1.0)])
    return turns(sides, repeats, device)


def loop(frames=16, size=64, batch=16, n=12):
    """`fit` against forward, backward, step written out, with all batches ready in memory."""
    torch.manual_seed(0)
    data = [(torch.randn(3, frames, size, size), i % CLASSES) for i in range(batch)] * n
    ready = [torch.utils.data.default_collate(data[k * batch : (k + 1) * batch]) for k in range(n)]

    class Ready(Batches):
        def __call__(self, epoch, first=0):
            return ready[first:]

    def bare():
        model = ours(frames, size, 16, 18).train()
        optimizer = make_optimizer(model, "sgd", 0.01)
        for b in ready:
            value = loss(model, b)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            value.item()

    def fitted():
        fit(
            ours(frames, size, 16, 18),
            loss,
            Ready(data, batch),
            1,
            0.01,
            clip=0.0,
            options=FitOptions("sgd", channels_last=False),
        )

    return turns({"bare loop": bare, "fit": fitted}, 3)


def few_channels(batch=64, frames=8, size=48):
    """The first convolution of the fast pathway, forward and backward, as pytorchvideo has it and
    over space first.
    """
    torch.manual_seed(0)
    last = dict(memory_format=torch.channels_last_3d)  # as the training has it
    conv, x = (
        nn.Conv3d(3, 2, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False).to(**last),
        torch.randn(batch, 3, frames, size, size).to(**last),
    )
    return turns(
        {
            "conv3d": lambda: conv(x).sum().backward(),
            "over space first": lambda: FewChannels.like(conv)(x).sum().backward(),
        },
        9,
    )


def main():
    torch.set_num_threads(1)
    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    settings = {
        "float32": FitOptions("sgd"),
        "bf16": FitOptions("sgd", bf16=True),
        "float32, channels first": FitOptions("sgd", channels_last=False),
        "bf16, channels first": FitOptions("sgd", bf16=True, channels_last=False),
    }
    t = steps(16, 64, 16, 18, 16, "cpu", settings, 9)
    ours_of = {k.removeprefix("ours "): 1000 * v for k, v in t.items() if k.startswith("ours")}
    plain_ms, plain_bf16_ms = 1000 * t["plain float32"], 1000 * t["plain bf16"]
    work, peer = (
        "step of a narrow SlowFast, 16 clips, one thread",
        ("pytorchvideo, float32", plain_ms),
    )
    for name, ms in ours_of.items():
        row(f"{work}: {name}", ms, "ms", peer)
    row(f"{work}: bf16 both", ours_of["bf16"], "ms", ("pytorchvideo, bf16", plain_bf16_ms))
    fastest = min(ours_of.values()) if bf16 else ours_of["float32"]
    row(f"{work}: as chosen", fastest, "ms", peer, ("wanted", plain_ms / (1.7 if bf16 else 2.2)))
    c = {name: 1000 * seconds for name, seconds in few_channels().items()}
    work = "the fast pathway's first convolution, 64 clips of 8 frames of 48 x 48"
    row(work, c["over space first"], "ms", ("conv3d", c["conv3d"]))
    took = loop()
    row("an epoch with `fit`", took["fit"], "s", ("a bare loop", took["bare loop"]))


if __name__ == "__main__":
    main()
