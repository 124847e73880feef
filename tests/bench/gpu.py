"""What the paper's networks do on this machine's graphics card: `make bench-gpu`, 8 minutes.

Everything is measured in this one run, the plain code of others beside ours, on made-up clips that
lie on the card, and written to runs/reference/gpu/<card>.json, which the notebook of the budget
reads. Without a card, `--small` runs every part with tiny sizes on the CPU: it shows that the
script works, and its numbers mean nothing.
"""

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from loading import write
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from hiermovie.backbone import (
    WAYS,
    ContrastiveModel,
    MoDist,
    Slow,
    SlowConfig,
    SlowFast,
    SlowFastConfig,
    Way,
    cvrl_augment,
    fastest,
    measure_ways,
    motion_backbone,
    time_steps,
)
from hiermovie.base import LARS, InputError, write_json
from hiermovie.contextualizer import (
    Contextualizer,
    ContextualizerConfig,
    MaskPrediction,
    Targets,
)
from hiermovie.video import CardReader, read_clips, seeded, to_clip

CLASSES = 400


@dataclass(frozen=True)
class Sizes:
    "What is measured; the defaults are the paper's."

    depth: int = 50
    width: int = 64
    size: int = 224
    batch: int = 32
    frames: int = 32
    matrix: int = 8192
    copied: int = 2**30  # bytes
    features: int = 2304
    contextualizer: int = 1024
    layers: int = 3
    repeats: int = 5


SMALL = Sizes(18, 16, 32, 2, 16, 64, 2**16, 24, 16, 1, 1)


class Clock:
    "Says whether there is time for another part."

    def __init__(self, minutes: float):
        self.end = time.perf_counter() + 60 * minutes

    def left(self) -> float:
        return self.end - time.perf_counter()


def seconds_of(work, device: str, repeats: int) -> float:
    "The shortest of some repetitions, after two that do not count."
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    times = []
    for _ in range(repeats + 2):
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[2:])


# the card itself


def rates(s: Sizes, device: str) -> dict:
    "Matrix products in both precisions, and copies within the card's memory."
    out = {}
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        a = torch.randn(s.matrix, s.matrix, device=device, dtype=dtype)
        took = seconds_of(lambda a=a: a @ a, device, s.repeats)
        out[f"matmul_{name}_tflops"] = 2 * s.matrix**3 / took / 1e12
    source = torch.empty(s.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    took = seconds_of(lambda: target.copy_(source), device, s.repeats)
    return out | dict(copy_gb_s=2 * s.copied / took / 1e9)


# networks and objectives


class Classifier(nn.Module):
    "A backbone with a linear layer: clips and classes to a loss."

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone, self.last = backbone, nn.Linear(backbone.dim, CLASSES)

    def forward(self, clips, classes):
        return F.cross_entropy(self.last(self.backbone(clips)).float(), classes)


class Pytorchvideo(nn.Module):
    "pytorchvideo's own SlowFast with its own head, as their tutorial builds it."

    def __init__(self, s: Sizes):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pytorchvideo.models.slowfast import create_slowfast
        side, self.frames = s.size // 32, s.frames
        self.net = create_slowfast(
            model_depth=s.depth,
            stem_dim_outs=(s.width, s.width // 8),
            model_num_class=CLASSES,
            head_pool_kernel_sizes=((s.frames // 4, side, side), (s.frames, side, side)),
            dropout_rate=0.0,
        )

    def forward(self, clips, classes):
        frames = torch.linspace(0, self.frames - 1, self.frames // 4).long().to(clips.device)
        scores = self.net([clips.index_select(2, frames), clips])
        return F.cross_entropy(scores.float(), classes)


def loss_of(model: nn.Module, batch: tuple) -> torch.Tensor:
    return model(*batch)


def clips_of(s: Sizes, n: int, frames: int, device: str) -> torch.Tensor:
    return torch.randn(n, 3, frames, s.size, s.size, device=device)


def slowfast(s: Sizes) -> SlowFast:
    return SlowFast(SlowFastConfig(s.depth, s.width, frames=s.frames, size=s.size))


def supervised(backbone: nn.Module, s: Sizes, device: str) -> tuple:
    classes = torch.arange(s.batch, device=device) % CLASSES
    clips = clips_of(s, s.batch, backbone.cfg.frames, device)
    return Classifier(backbone), (clips, classes), s.batch


def cvrl(s: Sizes, device: str) -> tuple:
    half = max(2, s.batch // 2)
    views = [clips_of(s, half, s.frames, device) for _ in range(2)]
    return ContrastiveModel(slowfast(s)), tuple(views), 2 * half


def modist(s: Sizes, device: str) -> tuple:
    half, net = max(2, s.batch // 2), slowfast(s)
    clips = [clips_of(s, half, s.frames, device) for _ in range(4)]
    return MoDist(net, motion_backbone(net.cfg), queue=4 * half), tuple(clips), 4 * half


def works(s: Sizes, device: str) -> dict:  # name -> function to (model, batch, clips)
    "Training steps, the most important first: later ones fall away when time runs out."
    slow = Slow(SlowConfig(s.depth, s.width, 8, s.size))
    r3d = Slow(SlowConfig(s.depth, s.width, 16, s.size, stem_kernel=5))
    return {
        "SlowFast, supervised": lambda: supervised(slowfast(s), s, device),
        "SlowFast, CVRL": partial(cvrl, s, device),
        "SlowFast, MoDist": partial(modist, s, device),
        "Slow, supervised": lambda: supervised(slow, s, device),
        "R3D, supervised": lambda: supervised(r3d, s, device),
    }


def flops_of_step(model: nn.Module, batch: tuple) -> int:
    "Operations of one training step: counted over two rows of the batch, in proportion."
    model, two = copy.deepcopy(model), tuple(x[:2] for x in batch)
    with torch.no_grad():
        model(*two)  # fills the queue of MoDist, without which there is no gradient
    with FlopCounterMode(display=False) as counter:
        model(*two).backward()
    return counter.get_total_flops() * len(batch[0]) // 2


# more than the ways of a training: what else could make a step faster or smaller


class Twice(nn.Module):
    "A stage whose activations are computed again in the backward pass, instead of being kept."

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        if isinstance(x, torch.Tensor):
            return checkpoint(self.stage, x, use_reentrant=False)
        # pytorchvideo writes into the list that it is given, so it gets a new one each time
        return checkpoint(lambda *parts: self.stage(list(parts)), *x, use_reentrant=False)


def recomputed(model: nn.Module) -> nn.Module:
    "A copy whose backbone computes its stages twice."
    model = copy.deepcopy(model)
    for net in model.modules():
        if isinstance(net, SlowFast | Slow):
            net.net.blocks = nn.ModuleList(map(Twice, net.net.blocks))
    return model


def memory(s: Sizes, device: str, best: Way) -> list:
    "What it brings, and costs, to compute activations twice instead of keeping them."
    model, batch, _ = supervised(slowfast(s), s, device)
    way = replace(best, compile=False, graphs=False)
    rows = []
    for name, net in (("kept", model.to(device)), ("computed twice", recomputed(model))):
        seconds, gib = time_steps(net, loss_of, batch, way, s.repeats)
        rows.append(dict(activations=name, seconds=seconds, peak_gib=gib))
    return rows


def optimizers(s: Sizes, device: str) -> list:
    "The step of the optimizer alone; fused: one kernel for all weights."
    rows = []
    made = {
        "sgd": lambda ps: torch.optim.SGD(ps, 0.1, 0.9),
        "sgd, fused": lambda ps: torch.optim.SGD(ps, 0.1, 0.9, fused=True),
        "adamw": lambda ps: torch.optim.AdamW(ps, 0.1),
        "adamw, fused": lambda ps: torch.optim.AdamW(ps, 0.1, fused=True),
        "lars": lambda ps: LARS(ps, 0.1),
    }
    for name, make in made.items():
        model = slowfast(s).to(device)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer = make(list(model.parameters()))
        rows.append(dict(optimizer=name, seconds=seconds_of(optimizer.step, device, s.repeats)))
    return rows


def step_of_work(make, s: Sizes, device: str, clock: Clock) -> dict:
    "One training step in every way; compiled ones only while there is time."
    torch.manual_seed(0)
    model, batch, clips = make()
    compiles = device == "cuda" and clock.left() > 240
    few = {name: way for name, way in WAYS.items() if compiles or not way.compile}
    model = model.to(device)
    tflop = flops_of_step(model, batch) / 1e12
    table = measure_ways(model, loss_of, batch, few, clips=clips, repeats=s.repeats)
    return dict(clips=clips, ways=table.to_dict("records"), best=fastest(table), tflop=tflop)


def step_of_pytorchvideo(s: Sizes, device: str) -> dict:
    "Their model in the plain loop, in the precisions in which ours is measured."
    torch.manual_seed(0)
    _, batch, clips = supervised(slowfast(s), s, device)
    theirs, plain = Pytorchvideo(s).to(device), ("plain", "channels last", "bf16")
    ways = {name: WAYS[name] for name in plain}
    table = measure_ways(theirs, loss_of, batch, ways, clips=clips, repeats=s.repeats)
    return dict(clips=clips, ways=table.to_dict("records"))


# what comes after pretraining


def extraction(s: Sizes, device: str) -> list:
    "Features of clips, without gradients; the first row is what stage 20 does."
    rows = []
    product = Way(channels_last=True)
    for name, way in {"as in stage 20": product, **WAYS}.items():
        if way.compile:
            continue
        net = way.applied(slowfast(s)).to(device).eval()
        clips = clips_of(s, s.batch, s.frames, device)
        if way.channels_last:
            clips = clips.contiguous(memory_format=torch.channels_last_3d)

        @torch.no_grad()
        def forward(net=net, clips=clips, way=way):
            with torch.autocast(device, torch.bfloat16, enabled=way.bf16):
                net(clips)

        took = seconds_of(forward, device, s.repeats)
        rows.append({"way": name, "seconds": took, "clips/s": s.batch / took})
    torch.backends.cudnn.benchmark = False
    return rows


def augmentation(s: Sizes, device: str) -> list:
    "CVRL's distortions of decoded clips on the card, as `augment_on=device` has them."
    high, wide = s.size + s.size // 8, s.size + s.size // 2
    frames = torch.randint(0, 256, (s.frames, 3, high, wide), dtype=torch.uint8, device=device)
    rows = []
    for view in (1, 2):
        change = cvrl_augment(s.size, view)

        def augment(change=change):
            for k in range(s.batch):
                to_clip(seeded(change, frames, k))

        took = seconds_of(augment, device, s.repeats)
        rows.append({"view": view, "seconds": took, "clips/s": s.batch / took})
    return rows


def decoding(s: Sizes, device: str) -> list:
    "Two clips from each of four videos of ten seconds: one processor core, and torchcodec."
    readers = {"one core": read_clips, f"torchcodec on {device}": CardReader(device)}
    clips, rows = [np.linspace(start, start + 2, s.frames) for start in (1.0, 6.0)], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.mp4" for k in range(4)]
        for k, path in enumerate(paths):
            write(path, k)
        for name, read in readers.items():
            took = []
            for _ in range(s.repeats):
                began = time.perf_counter()
                for path in paths:
                    read(path, clips)
                took.append(time.perf_counter() - began)
            seconds = statistics.median(took)
            rows.append({"decoder": name, "seconds": seconds, "clips/s": 8 / seconds})
    return rows


def contextualizer(s: Sizes, device: str) -> list:
    "A step of mask prediction: 64 sequences of 30 events."
    rows, features = [], torch.randn(64, 30, s.features, device=device)
    nothing_padded = torch.zeros(64, 30, dtype=torch.bool, device=device)
    shape = dict(width=s.contextualizer, depth=s.layers, heads=8, ffn=2 * s.contextualizer)
    for name in ("plain", "bf16"):
        torch.manual_seed(0)
        encoder = Contextualizer(ContextualizerConfig(s.features, **shape))
        model = MaskPrediction(encoder, Targets(features.cpu(), "raw")).to(device)
        seconds, _ = time_steps(model, loss_of, (features, nothing_padded), WAYS[name], s.repeats)
        rows.append({"way": name, "seconds": seconds, "sequences/s": 64 / seconds})
    return rows


def kernels(s: Sizes, device: str, best: Way, n: int = 15) -> list:
    "Where the time of a supervised step goes, by kernel."
    model, batch, _ = supervised(slowfast(s), s, device)
    model = replace(best, compile=False, graphs=False).applied(model).to(device)
    clips, classes = batch
    if best.channels_last:
        clips = clips.contiguous(memory_format=torch.channels_last_3d)

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=best.bf16):
            model(clips, classes).backward()

    step()
    with torch.profiler.profile() as seen:
        step()
    on_card = device == "cuda"

    def own_time(event) -> float:  # microseconds
        return event.self_device_time_total if on_card else event.self_cpu_time_total

    events = sorted(seen.key_averages(), key=own_time, reverse=True)
    whole = sum(map(own_time, events))
    return [dict(kernel=e.key[:100], calls=e.count, share=own_time(e) / whole) for e in events[:n]]


class Kept:
    "The result, written after each part; what fails or finds no time is named, not hidden."

    def __init__(self, path: Path, minutes: float, about: dict):
        self.path, self.clock = path, Clock(minutes)
        self.result = about | dict(training={}, not_measured={})

    def part(self, name: str, work, *, into: dict | None = None, needs: float = 0.0) -> None:
        "`needs`: seconds that must be left."
        into = self.result if into is None else into
        if self.clock.left() < needs:
            self.result["not_measured"][name] = "no time was left"
        else:
            try:
                into[name] = work()
            except (RuntimeError, InputError) as e:  # of memory, kernels, compilers
                self.result["not_measured"][name] = (str(e).splitlines() or [""])[0][:200]
        write_json(self.path, plain_numbers(self.result))


def measure(s: Sizes, device: str, minutes: float, path: Path) -> dict:
    about = dict(
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU, small sizes",
        torch=torch.__version__,
        date=str(date.today()),
        sizes=vars(s),
    )
    kept = Kept(path, minutes, about)
    kept.part("rates", partial(rates, s, device))
    training = kept.result["training"]
    first = "SlowFast, supervised"
    all_works = works(s, device)
    step = partial(step_of_work, s=s, device=device, clock=kept.clock)
    kept.part(first, partial(step, all_works.pop(first)), into=training)
    theirs = "pytorchvideo's SlowFast, supervised"
    kept.part(theirs, partial(step_of_pytorchvideo, s, device), into=training, needs=30)
    best = WAYS[training[first]["best"]] if first in training else WAYS["plain"]
    kept.part("kernels", partial(kernels, s, device, best), needs=30)
    kept.part("extraction", partial(extraction, s, device), needs=30)
    kept.part("augmentation", partial(augmentation, s, device), needs=30)
    kept.part("decoding", partial(decoding, s, device), needs=30)
    kept.part("memory", partial(memory, s, device, best), needs=30)
    kept.part("contextualizer", partial(contextualizer, s, device), needs=20)
    kept.part("optimizers", partial(optimizers, s, device), needs=20)
    for name, make in all_works.items():
        kept.part(name, partial(step, make), into=training, needs=60)
    return kept.result


def plain_numbers(x):
    "For JSON: no NaN, four significant digits."
    if isinstance(x, dict):
        return {k: plain_numbers(v) for k, v in x.items()}
    if isinstance(x, list):
        return [plain_numbers(v) for v in x]
    if isinstance(x, float):
        return None if x != x else float(f"{x:.4g}")
    return x


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--out", default="runs/reference/gpu", help="folder of the JSON file")
    asked.add_argument("--small", action="store_true", help="tiny sizes, on the CPU")
    asked.add_argument("--minutes", type=float, default=7.0)
    given = asked.parse_args()
    if not given.small and not torch.cuda.is_available():
        raise SystemExit("no graphics card here: nothing was measured (--small tries the script)")
    s, device = (SMALL, "cpu") if given.small else (Sizes(), "cuda")
    name = "small" if given.small else torch.cuda.get_device_name().replace(" ", "-")
    path = Path(given.out) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = measure(s, device, given.minutes, path)
    for name, work in result["training"].items():
        ways = {row["way"]: row.get("clips/s") for row in work["ways"]}
        print(name, {k: v for k, v in ways.items() if v}, work.get("best", ""))
    for name, why in result["not_measured"].items():
        print(f"not measured: {name}: {why}")
    print(path)


if __name__ == "__main__":
    main()
