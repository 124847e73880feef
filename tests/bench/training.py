"""How fast is a training step, and what does the loop around it cost? `make bench`. All sides in
one run, one after the other in turns, medians.

A narrow SlowFast (stem of 16 channels, 64 x 64, 16 frames, batch 16) on the CPU; where there is a
GPU also the paper's R50 on it, and then the
results go to runs/reference/gpu/<name>.json."""

import json
import statistics
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
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


def on_gpu(batch=32):
    """The paper's network at its size on this machine's GPU: step time, clips/s, share of the
    measured bf16 matrix rate, peak memory, and what each switch brings.
    """
    from torch.utils.flop_counter import FlopCounterMode

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    rate = 2 * 8192**3 / turns({"matmul": lambda: a @ a}, 20, "cuda")["matmul"]
    model = ours(32, 224, 64, 50)
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 32, 224, 224))
    work, sgd = 3 * counter.get_total_flops() * batch, dict(optimizer="sgd")
    first = dict(sgd, channels_last=False)
    settings = {
        "float32, channels first": FitOptions(**first),
        "float32": FitOptions(**sgd),
        "bf16, channels first": FitOptions(**first, bf16=True),
        "bf16": FitOptions(**sgd, bf16=True),
        "bf16, compile": FitOptions(**sgd, bf16=True, compile=True),
    }
    result = dict(
        device=torch.cuda.get_device_name(),
        torch=torch.__version__,
        batch=batch,
        matmul_bf16_tflops=rate / 1e12,
        steps={},
    )
    plain_times = steps(32, 224, 64, 50, batch, "cuda", {}, 10)
    for name, o in settings.items():  # one after the other, so that the memory is that of one
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        s = steps(32, 224, 64, 50, batch, "cuda", {name: o}, 10, with_plain=False)[f"ours {name}"]
        result["steps"][name] = dict(
            seconds=s,
            clips_per_s=batch / s,
            share_of_matmul=work / s / rate,
            peak_gib=torch.cuda.max_memory_allocated() / 2**30,
            plain_seconds=plain_times["plain bf16" if o.bf16 else "plain float32"],
        )
    path = (
        Path(sys.argv[1] if len(sys.argv) > 1 else "runs/reference/gpu")
        / f"{result['device'].replace(' ', '-')}.json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


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
    print(
        "a training step, narrow SlowFast, 16 clips of 16 frames of 64 x 64, one thread, "
        "medians of nine:"
    )
    for name, s in t.items():
        print(
            f"  {name:26}{1000 * s:7.0f} ms   {16 / s:6.1f} clips/s   "
            f"{t['plain float32'] / s:5.2f} times the plain float32 step"
        )
    print(
        f"  same precision: float32 {t['plain float32'] / t['ours float32']:.2f} times "
        f"plain, bf16 {t['plain bf16'] / t['ours bf16']:.2f} times plain (wanted: 1 or more)"
    )
    if bf16:
        print(
            "  fastest settings: "
            f"{t['plain float32'] / min(s for k, s in t.items() if k.startswith('ours')):.2f} "
            "times the plain float32 step (wanted: 1.35)"
        )
    else:
        print("  this CPU has no bf16 instructions: the ratio for them was not measured")
    c = few_channels()
    print(
        "  the fast pathway's first convolution, 64 clips of 8 frames of 48 x 48: "
        f"{1000 * c['conv3d']:.0f} ms as a 3D convolution, "
        f"{1000 * c['over space first']:.0f} ms over space first, "
        f"{c['conv3d'] / c['over space first']:.1f} times as fast"
    )
    took = loop()
    print(
        f"  a whole epoch with `fit`: {100 * (took['fit'] / took['bare loop'] - 1):+.1f}% against "
        "a bare loop (wanted: at most +5)"
    )
    if torch.cuda.is_available():
        on_gpu()
    else:
        print("  GPU: none here, not measured")


if __name__ == "__main__":
    main()
