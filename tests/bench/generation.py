"""How much does the key-value cache save? `make bench`.

Greedy generation of the roles of 1326 segments, with and without, side by side in one process; then
the sentences are compared.
"""

import time

import torch
from rows import row

from hiermovie.base import rng
from hiermovie.vidsitu import Generation, TxD, generate

SEGMENTS, TOKENS = 1326, 2048


def sentences(decoder, memory, first, rules, batch=320):
    """All events, `batch` at a time, as `predict_roles` does it; gives (seconds, sentences)."""
    began, out = time.perf_counter(), []
    for k in range(0, len(first), batch):
        out += generate(decoder, memory[k : k + batch], first[k : k + batch], 1, 0, rules).tolist()
    return time.perf_counter() - began, out


def gap(decoder, memory, x, y):
    """Difference of the two best logits where two sentences part."""
    at = next(k for k, (a, b) in enumerate(zip(x, y, strict=False)) if a != b)
    with torch.no_grad():
        best = decoder(memory[None], torch.tensor([x[:at]]))[0, -1].topk(2).values
    return (best[0] - best[1]).item()


def main():
    torch.manual_seed(0)
    decoder = TxD(TOKENS, width=128, depth=3, heads=8, ffn=256, max_len=60).eval()
    memory = torch.from_numpy(rng("bench").standard_normal((5 * SEGMENTS, 1, 128))).float()
    first = torch.randint(3, TOKENS, (5 * SEGMENTS,))
    for name, length in (("12 tokens an event", 12), ("24 tokens an event", 24)):
        # random weights: nobody stops before the last token, so every sentence has this length
        decoder.max_len, least = length, length - 1
        rules = [Generation(cache=cache, min_len=least) for cache in (True, False)]
        timed = [sentences(decoder, memory, first, how) for how in rules]
        (a, with_cache), (b, without) = timed
        pairs = list(enumerate(zip(with_cache, without, strict=True)))
        same = sum(x == y for _, (x, y) in pairs)
        gaps = [gap(decoder, memory[i], x, y) for i, (x, y) in pairs if x != y]
        row(f"roles of {5 * SEGMENTS} events, {name}", a, "s", ("without a cache", b))
        print(f"  {same} of {len(with_cache)} sentences equal token for token")
        if gaps:
            print(f"  the others where the two best tokens are {max(gaps):.0e} apart at most")


if __name__ == "__main__":
    main()
