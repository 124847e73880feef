"""A SlowFast network with PySlowFast's names, built from plain torch layers: the source model that
converted checkpoints are compared with.
"""

import torch
from torch import nn

BLOCKS = (3, 4, 6, 3)


def conv(i, o, kernel, stride=(1, 1, 1)):
    return nn.Conv3d(i, o, kernel, stride, [k // 2 for k in kernel], bias=False)


class Stem(nn.Module):
    def __init__(self, width, t):
        super().__init__()
        self.conv, self.bn = conv(3, width, (t, 7, 7), (1, 2, 2)), nn.BatchNorm3d(width)

    def forward(self, x):
        return nn.functional.max_pool3d(
            self.bn(self.conv(x)).relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1)
        )


class Branch2(nn.Module):
    def __init__(self, i, mid, o, t, stride):
        super().__init__()
        self.a, self.a_bn = conv(i, mid, (t, 1, 1)), nn.BatchNorm3d(mid)
        self.b, self.b_bn = conv(mid, mid, (1, 3, 3), (1, stride, stride)), nn.BatchNorm3d(mid)
        self.c, self.c_bn = conv(mid, o, (1, 1, 1)), nn.BatchNorm3d(o)

    def forward(self, x):
        return self.c_bn(self.c(self.b_bn(self.b(self.a_bn(self.a(x)).relu())).relu()))


class Res(nn.Module):
    def __init__(self, i, mid, o, t, stride):
        super().__init__()
        if i != o or stride > 1:
            self.branch1, self.branch1_bn = (
                conv(i, o, (1, 1, 1), (1, stride, stride)),
                nn.BatchNorm3d(o),
            )
        self.branch2 = Branch2(i, mid, o, t, stride)

    def forward(self, x):
        return (
            (self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x) + self.branch2(x)
        ).relu()


class Fuse(nn.Module):
    def __init__(self, fast, ratio, kernel, alpha):
        super().__init__()
        self.conv_f2s, self.bn = (
            conv(fast, ratio * fast, (kernel, 1, 1), (alpha, 1, 1)),
            nn.BatchNorm3d(ratio * fast),
        )

    def forward(self, slow, fast):
        return torch.cat([slow, self.bn(self.conv_f2s(fast)).relu()], 1), fast


class Like(nn.Module):
    """`forward(slow, fast)` gives the pooled features (B, D), slow first; without fusion
    (`two=False`) `forward(clip)`.
    """

    def __init__(self, width=16, alpha=4, kernel=7, two=True, stem=1):
        super().__init__()
        self.two, paths = (
            two,
            [(width, (1, 1, 3, 3), stem, 2 * width // 8)]
            + ([(width // 8, (3, 3, 3, 3), 5, 0)] if two else []),
        )
        self.s1 = nn.Module()
        for p, (w, _, t, _) in enumerate(paths):
            self.s1.add_module(f"pathway{p}_stem", Stem(w, t))
        for k in range(4):
            stage = nn.Module()
            for p, (w, ts, _, extra) in enumerate(paths):
                mid, out = w * 2**k, 4 * w * 2**k
                before = (w if k == 0 else out // 2) + (
                    extra * (1 if k == 0 else 2 * 2**k) if two else 0
                )
                for i in range(BLOCKS[k]):
                    stage.add_module(
                        f"pathway{p}_res{i}",
                        Res(before if i == 0 else out, mid, out, ts[k], 2 if i == 0 and k else 1),
                    )
            self.add_module(f"s{k + 2}", stage)
            if two:
                self.add_module(
                    f"s{k + 1}_fuse",
                    Fuse(width // 8 * (1 if k == 0 else 2 * 2**k), 2, kernel, alpha),
                )
        self.head = nn.Module()
        self.head.projection = nn.Linear(32 * width + (4 * width if two else 0), 400)

    def forward(self, *clips):
        xs = [getattr(self.s1, f"pathway{p}_stem")(x) for p, x in enumerate(clips)]
        for k in range(4):
            if self.two:
                xs = list(getattr(self, f"s{k + 1}_fuse")(*xs))
            for p in range(len(xs)):
                for i in range(BLOCKS[k]):
                    xs[p] = getattr(getattr(self, f"s{k + 2}"), f"pathway{p}_res{i}")(xs[p])
        return torch.cat([x.mean((2, 3, 4)) for x in xs], 1)


def trained_looking(model, seed=0):
    """Batch norms with statistics, so that a wrong or missing one shows."""
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm3d):
            for t, (low, high) in (
                (m.running_mean, (-0.2, 0.2)),
                (m.running_var, (0.5, 2)),
                (m.weight.data, (0.5, 1.5)),
                (m.bias.data, (-0.2, 0.2)),
            ):
                t.copy_(torch.rand(t.shape, generator=g) * (high - low) + low)
    return model.eval()
