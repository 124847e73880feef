"""Made-up predictions and annotations of the size and shape of VidSitu's validation split, from a
seed: for the benchmark and for a test on many segments at once.
"""

import numpy as np

EVENTS = ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5")
RELATIONS = ("Causes", "Reaction To", "Enables", "NoRel")
ROLES = {
    "Arg0": "Arg0 (agent)",
    "Arg1": "Arg1 (thing)",
    "Arg2": "Arg2 (beneficiary)",
    "ALoc": "ArgM (location)",
    "AScn": "Scene of the Event",
    "AMnr": "ArgM (manner)",
}


def zipf(r, size, n):
    """n draws from `size` things of which the k-th is drawn 1/k as often as the first."""
    p = 1 / np.arange(1, size + 1)
    return r.choice(size, n, p=p / p.sum())


def full_size(segments=1326, annotators=5, seed=0, verbs=1560, words=3000):
    """(split, vinfo, annotations, predictions by task).

    About 17 scored role items a segment: 22,500 for 1326 segments.
    """
    r = np.random.default_rng(seed)

    def phrase():
        return " ".join(f"w{k}" for k in zipf(r, words, 1 + min(9, r.poisson(3.0))))

    split, vinfo, annotations, said = [], [], [], dict(verbs=[], relations=[], roles=[])
    for s in range(segments):
        name = f"v_{s // 3:011d}_seg_{s % 3 * 20}_{s % 3 * 20 + 10}"
        split.append(name)
        verb = {e: [f"verb{k}.01" for k in zipf(r, verbs, 12)] for e in EVENTS}
        vinfo.append(
            dict(
                vid_seg_int=name,
                vbid_lst={e: [verb[e][int(k)] for k in r.integers(0, 4, 10)] for e in EVENTS},
            )
        )
        cast = [phrase() for _ in range(6)]
        roles = {
            e: [
                k
                for k, p in zip(ROLES, (0.95, 0.8, 0.45, 0.3, 0.9, 0.3), strict=True)
                if r.random() < p
            ]
            for e in EVENTS
        }

        def text(cast=cast):
            return cast[r.integers(6)] if r.random() < 0.6 else phrase()

        for _ in range(annotators):
            annotations.append(
                {
                    e: dict(
                        vid_seg_int=name,
                        VerbID=verb[e][0],
                        Args={ROLES[k]: text() for k in roles[e]},
                        EvRel=RELATIONS[r.integers(4)],
                    )
                    for e in EVENTS
                }
            )
        mine = annotations[-annotators:]
        said["verbs"].append(
            dict(
                ann_idx=s,
                pred_vbs_ev=[
                    list(dict.fromkeys([*verb[e][3:], *(f"verb{k}.01" for k in range(5))]))[:5]
                    for e in EVENTS
                ],
            )
        )
        said["relations"].append(
            dict(ann_idx=s, pred_evrels_ev=[[RELATIONS[r.integers(4)]] * 3 for _ in range(4)])
        )
        said["roles"].append(
            dict(
                ann_idx=s,
                vb_output={
                    e: {
                        k: mine[r.integers(annotators)][e]["Args"][ROLES[k]]
                        if r.random() < 0.3
                        else phrase()
                        for k in roles[e]
                        if r.random() < 0.9
                    }
                    for e in EVENTS
                },
            )
        )
    return split, vinfo, annotations, said
