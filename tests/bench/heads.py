"""Five seeds of a head trained one after the other, and all five in one pass with stacked
parameters (torch.func, vmap). `make bench`. Both in one run, in turns, medians of nine.

The stacked step must give the same parameters as the five single steps (dropout off), or the
comparison would be of two different things."""

import copy
import statistics
import time
import warnings

import torch
from rows import row
from torch.func import functional_call, stack_module_state, vmap

from hiermovie.contextualizer import Contextualizer, ContextualizerConfig
from hiermovie.vidsitu import (
    RelationModel,
    RoleModel,
    Trunk,
    TxD,
    VerbModel,
    relation_loss,
    role_loss,
    verb_loss,
)

SEEDS, DIM, TOKENS, LENGTH = 5, 288, 500, 21
warnings.filterwarnings("ignore", message=".*batching rule.*")


def trunk(kind: str, dropout: float) -> Trunk:
    cfg = ContextualizerConfig(DIM, 96, 2, 4, 192, dropout=0.0, positions="learned", max_events=5)
    contextualizer = Contextualizer(cfg) if kind == "scratch" else None
    return Trunk(torch.randn(1000, DIM), contextualizer, dropout=dropout, rate=0.3)


class Called:
    """A model whose parameters are given from outside."""

    def __init__(self, net, state):
        self.net, self.state = net, state

    def __call__(self, *inputs):
        return functional_call(self.net, self.state, inputs)

    def __getattr__(self, name):
        return self.state[1][name]


def one_by_one(nets, loss_fn, batch):
    optimizers = [torch.optim.AdamW(net.parameters(), 1e-3, fused=True) for net in nets]

    def step():
        for k, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
            optimizer.zero_grad()
            loss_fn(net, [part[k] for part in batch]).backward()
            optimizer.step()

    return step


def stacked(nets, loss_fn, batch):
    parameters, buffers = stack_module_state(nets)
    parameters = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    optimizer = torch.optim.AdamW(parameters.values(), 1e-3, fused=True)
    net = copy.deepcopy(nets[0])

    def loss_of_one(p, b, *parts):
        return loss_fn(Called(net, (p, b)), parts)

    losses = vmap(loss_of_one, randomness="different")

    def step():
        optimizer.zero_grad()
        losses(parameters, buffers, *batch).sum().backward()
        optimizer.step()

    return step, parameters


def difference(make, loss_fn, batch) -> float:
    """The largest difference of any parameter after one step of both, without dropout."""
    nets = [make(0.0) for _ in range(SEEDS)]
    step, parameters = stacked(nets, loss_fn, batch)
    step()
    one_by_one(nets, loss_fn, batch)()
    pairs = ((parameters[n][k], p) for k, net in enumerate(nets) for n, p in net.named_parameters())
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)


def median_ms(steps: dict) -> dict:
    taken = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(9):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(t) for name, t in taken.items()}


def main():
    torch.manual_seed(0)
    features = torch.randn(SEEDS, 32, 5, DIM)
    verbs, relations = torch.randint(25, (SEEDS, 32, 5)), torch.randint(4, (SEEDS, 32, 4))
    tokens = torch.randint(1, TOKENS, (SEEDS, 8, 5, LENGTH))
    cases = {
        f"verbs, {kind}": (
            lambda p, kind=kind: VerbModel(trunk(kind, p), 25),
            verb_loss,
            (features, verbs),
        )
        for kind in ("none", "scratch")
    }
    cases["relations, scratch"] = (
        lambda p: RelationModel(trunk("scratch", p)),
        relation_loss,
        (features, relations),
    )
    cases["roles, scratch"] = (
        lambda p: RoleModel(trunk("scratch", p), TxD(TOKENS, 64, 1, 4, 128, p, 60)),
        role_loss(0),
        (features[:, :8], tokens),
    )
    for name, (make, loss_fn, batch) in cases.items():
        nets = [make(0.1) for _ in range(SEEDS)]
        together, _ = stacked(nets, loss_fn, batch)
        ms = median_ms({"one by one": one_by_one(nets, loss_fn, batch), "stacked": together})
        work = f"step of {SEEDS} heads, {name}"
        row(work, ms["stacked"], "ms", ("one by one", ms["one by one"]))
        print(f"  parameters differ by at most {difference(make, loss_fn, batch):.0e} after it")


if __name__ == "__main__":
    main()
