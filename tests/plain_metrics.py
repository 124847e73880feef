"""Slow, plain reference implementation of METRICS.md (sections 1 to 8), an oracle for tests; input
is valid and complete.
"""

import itertools
import math
from collections import Counter

import numpy as np

EVENTS = ["Ev1", "Ev2", "Ev3", "Ev4", "Ev5"]
RELATION_EVENTS = ["Ev1", "Ev2", "Ev4", "Ev5"]
SCORED_ROLES = ["Arg0", "Arg1", "Arg2", "ALoc", "AScn"]
ARGM_NAMES = [
    ("direction", "ADir"),
    ("purpose", "APrp"),
    ("manner", "AMnr"),
    ("location", "ALoc"),
    ("goal", "AGol"),
]
CAPTION_METRICS = ["cider", "rouge", "bleu_1", "bleu_2", "bleu_3", "bleu_4"]
REGRESSION_TASKS = ["like_ratio", "view_count"]


def divide(numerator, denominator):
    """Every section: a quotient, 0 when the denominator is 0."""
    return numerator / denominator if denominator != 0 else 0.0


def mean(values):
    """Every section: the unweighted mean, 0 of nothing."""
    values = list(values)
    return divide(sum(values), len(values))


def f_one(precision, recall):
    """Section 6: the harmonic mean of precision and recall."""
    return divide(2 * precision * recall, precision + recall)


def first_predictions(predictions):
    """Section 1.1: ann_idx -> prediction, the first in file order where several have one."""
    first = {}
    for prediction in predictions:
        if prediction["ann_idx"] not in first:
            first[prediction["ann_idx"]] = prediction
    return first


def group_annotations(annotations, split):
    """Section 1.2: segment id -> its annotations in file order; segments outside the split are
    ignored.
    """
    groups = {segment: [] for segment in split}
    for annotation in annotations:
        segment = annotation["Ev1"]["vid_seg_int"]
        if segment in groups:
            groups[segment].append(annotation)
    return groups


def verb_recalls(events):
    """Section 2: verb -> list of records (1 or 0), from (first five predicted, first ten votes) of
    every event.
    """
    records = {}
    for predicted, votes in events:
        for verb, count in Counter(votes).items():
            if count >= 2:
                records.setdefault(verb, []).append(1 if verb in predicted else 0)
    return records


def verbs(predictions, split, vinfo):
    """Section 2: verb accuracy at 1 to 5 per event and per segment, and macro recall above
    thresholds 0 to 9.
    """
    votes_of = {entry["vid_seg_int"]: entry["vbid_lst"] for entry in vinfo}
    segments = []
    for ann_idx, prediction in first_predictions(predictions).items():
        pairs = []
        for position, event in enumerate(EVENTS):
            predicted = prediction["pred_vbs_ev"][position][:5]
            votes = votes_of[split[ann_idx]][event][:10]
            pairs.append((predicted, votes))
        segments.append(pairs)
    result = {}
    for k in range(1, 6):
        hits = [
            [any(verb in votes for verb in predicted[:k]) for predicted, votes in pairs]
            for pairs in segments
        ]
        result[f"Per_Ev_Top_{k}"] = mean(1 if hit else 0 for row in hits for hit in row)
        result[f"Per_Vid_Top_{k}"] = mean(1 if all(row) else 0 for row in hits)
    result["acc"] = result["Per_Ev_Top_5"]
    records = verb_recalls([pair for pairs in segments for pair in pairs])
    for threshold in range(10):
        frequent = [verb for verb in records if len(records[verb]) > threshold]
        result[f"recall_macro_1_th_{threshold}"] = mean(mean(records[verb]) for verb in frequent)
        result[f"num_vbs_thresh_{threshold}"] = len(frequent)
    return result


def relations(predictions, split, annotations):
    """Section 3: relation accuracy over all records and macro over the labels that have records."""
    groups = group_annotations(annotations, split)
    records = {}
    for ann_idx, prediction in first_predictions(predictions).items():
        references = groups[split[ann_idx]][:3]
        for position, event in enumerate(RELATION_EVENTS):
            labels = [reference[event]["EvRel"] for reference in references]
            majority = max(labels, key=labels.count)
            if labels.count(majority) < 2:
                continue
            for j in range(3):
                if labels[j] == majority:
                    correct = prediction["pred_evrels_ev"][position][j] == majority
                    records.setdefault(majority, []).append(1 if correct else 0)
    everything = [record for label in records for record in records[label]]
    per_label = {label: mean(records[label]) for label in records}
    return {
        "Top_1": mean(everything),
        "Macro_Top_1": mean(per_label.values()),
        "Macro_Top_Dct": per_label,
        "Len": len(everything),
    }


def permuted_references(annotations, split):
    """Section 4.1: for each segment in split order its first three annotations after the seeded
    permutation.
    """
    groups = group_annotations(annotations, split)
    generator = np.random.RandomState(5)
    references = []
    for segment in split:
        order = generator.permutation(len(groups[segment]))
        references.append([groups[segment][int(i)] for i in order][:3])
    return references


def short_name(full_name):
    """Section 4.2: the short name of a full role name."""
    first_word = full_name.split()[0]
    if first_word in ["Arg0", "Arg1", "Arg2", "Arg3", "Arg4", "Arg5"]:
        return first_word
    if full_name == "Scene of the Event":
        return "AScn"
    if first_word == "ArgM":
        for word, short in ARGM_NAMES:
            if word in full_name:
                return short
    raise ValueError(f"unknown role name: {full_name}")


def role_items(outputs, references):
    """Section 4.3: the items, segments ascending, Ev1 to Ev5, each scored role of the first
    permuted reference.
    """
    items = []
    for ann_idx in range(len(references)):
        first = references[ann_idx][0]
        for event in EVENTS:
            for full_name in first[event]["Args"]:
                role = short_name(full_name)
                if role not in SCORED_ROLES:
                    continue
                items.append(
                    {
                        "ann_idx": ann_idx,
                        "mention": event + "_" + role,
                        "role": role,
                        "verb": first[event]["VerbID"],
                        "hyp": outputs[ann_idx].get(event, {}).get(role, ""),
                        "refs": [
                            reference[event]["Args"][full_name] for reference in references[ann_idx]
                        ],
                    }
                )
    return items


def ngrams(words, n):
    """Section 5: the n-grams of a list of words, with counts."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def cider_document_frequency(items):
    """Section 5, CIDEr: n-gram -> number of items with it in at least one reference; ValueError
    when there is none.
    """
    frequency = Counter()
    for item in items:
        present = set()
        for reference in item["refs"]:
            for n in range(1, 5):
                present.update(ngrams(reference.split(), n))
        for gram in present:
            frequency[gram] += 1
    if not frequency:
        raise ValueError("CIDEr: all references are empty")
    return frequency


def cider_weights(text, n, frequency, number_of_items):
    """Section 5, CIDEr: n-gram -> w(g) of one text."""
    weights = {}
    for gram, count in ngrams(text.split(), n).items():
        weights[gram] = count * (math.log(number_of_items) - math.log(max(1, frequency[gram])))
    return weights


def cider_pair(hyp, ref, frequency, number_of_items):
    """Section 5, CIDEr: one hypothesis against one reference, mean over n = 1 to 4 of sim_n times
    the penalty.
    """
    bigrams_hyp = sum(ngrams(hyp.split(), 2).values())
    bigrams_ref = sum(ngrams(ref.split(), 2).values())
    penalty = math.exp(-((bigrams_hyp - bigrams_ref) ** 2) / (2 * 6**2))
    total = 0.0
    for n in range(1, 5):
        w_hyp = cider_weights(hyp, n, frequency, number_of_items)
        w_ref = cider_weights(ref, n, frequency, number_of_items)
        norm_hyp = math.sqrt(sum(w**2 for w in w_hyp.values()))
        norm_ref = math.sqrt(sum(w**2 for w in w_ref.values()))
        product = sum(
            min(w_hyp[gram], w_ref.get(gram, 0.0)) * w_ref.get(gram, 0.0) for gram in w_hyp
        )
        if norm_hyp != 0 and norm_ref != 0:
            total += product / (norm_hyp * norm_ref) * penalty
    return total / 4


def cider_scores(items):
    """Section 5, CIDEr: the score of every item; df and N are those of this list."""
    frequency = cider_document_frequency(items)
    return [
        10 * mean(cider_pair(item["hyp"], ref, frequency, len(items)) for ref in item["refs"])
        for item in items
    ]


def longest_common_subsequence(a, b):
    """Section 5, ROUGE-L: the length of the longest common subsequence of two lists."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            if a[i] == b[j]:
                table[i + 1][j + 1] = table[i][j] + 1
            else:
                table[i + 1][j + 1] = max(table[i][j + 1], table[i + 1][j])
    return table[len(a)][len(b)]


def rouge_item(item):
    """Section 5, ROUGE-L: one item; best precision and best recall are taken separately over the
    references.
    """
    hyp = item["hyp"].split(" ")
    refs = [reference.split(" ") for reference in item["refs"]]
    precision = max(longest_common_subsequence(hyp, ref) / len(hyp) for ref in refs)
    recall = max(longest_common_subsequence(hyp, ref) / len(ref) for ref in refs)
    b = 1.2
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + b**2) * precision * recall / (recall + b**2 * precision)


def bleu(items, n):
    """Section 5, BLEU-n over the whole list."""
    product, len_hyp, len_ref = 1.0, 0, 0
    for item in items:
        length = len(item["hyp"].split())
        len_hyp += length
        len_ref += min((abs(len(ref.split()) - length), len(ref.split())) for ref in item["refs"])[
            1
        ]
    for k in range(1, n + 1):
        correct, guess = 0, 0
        for item in items:
            in_refs = [ngrams(ref.split(), k) for ref in item["refs"]]
            for gram, count in ngrams(item["hyp"].split(), k).items():
                guess += count
                correct += min(count, max(counts[gram] for counts in in_refs))
        product *= (correct + 1e-15) / (guess + 1e-9)
    q = (len_hyp + 1e-15) / (len_ref + 1e-9)
    score = product ** (1 / n)
    return score * math.exp(1 - 1 / q) if q < 1 else score


def caption_metrics(items):
    """Section 5: the six caption metrics of one list of items."""
    result = {"cider": mean(cider_scores(items)), "rouge": mean(rouge_item(item) for item in items)}
    for n in range(1, 5):
        result[f"bleu_{n}"] = bleu(items, n)
    return result


def grouped_caption_metrics(items, field):
    """Section 5, groups: value of the field -> the caption metrics of its items on their own."""
    groups = {}
    for item in items:
        groups.setdefault(item[field], []).append(item)
    return {value: caption_metrics(group) for value, group in groups.items()}


def key_mentions(reference):
    """Section 6: mention -> text for all scored roles of one reference."""
    mentions = {}
    for event in EVENTS:
        for full_name, text in reference[event]["Args"].items():
            if short_name(full_name) in SCORED_ROLES:
                mentions[event + "_" + short_name(full_name)] = text
    return mentions


def system_mentions(output, key):
    """Section 6: mention -> text for the scored roles that the reference has for the event and the
    prediction contains.
    """
    with_args = "Args" in output["Ev1"]
    mentions = {}
    for event in EVENTS:
        roles_here = (
            {short_name(name): text for name, text in output[event]["Args"].items()}
            if with_args
            else output[event]
        )
        for role in SCORED_ROLES:
            if event + "_" + role in key and role in roles_here:
                mentions[event + "_" + role] = roles_here[role]
    return mentions


def clusters_of(mentions):
    """Section 6: the clusters of one segment: all mentions with exactly the same string."""
    clusters = {}
    for mention, text in mentions.items():
        clusters.setdefault(text, []).append(mention)
    return list(clusters.values())


def cluster_with(mention, clusters):
    """Section 6: the cluster that holds the mention, None when there is none."""
    for cluster in clusters:
        if mention in cluster:
            return cluster
    return None


def lea_resolution(cluster, others):
    """Section 6, LEA: res of one cluster against the clusters of the other side."""
    k = len(cluster)
    if k == 1:
        found = cluster_with(cluster[0], others)
        return 1.0 if found is not None and len(found) == 1 else 0.0
    shared = 0
    for one, two in itertools.combinations(cluster, 2):
        found = cluster_with(one, others)
        if found is not None and two in found:
            shared += 1
    return shared / (k * (k - 1) / 2)


def lea_side(clusters, others):
    """Section 6, LEA: numerator and denominator of one side of one segment."""
    return sum(len(c) * lea_resolution(c, others) for c in clusters), sum(len(c) for c in clusters)


def lea_soft_precision_side(clusters, others, cider_of):
    """Section 6, lea_soft: numerator and denominator of the precision of one segment."""
    numerator, denominator = 0.0, 0
    for cluster in clusters:
        k = len(cluster)
        numerator += (
            sum(cider_of[mention] for mention in cluster) * k * lea_resolution(cluster, others)
        )
        denominator += k * k
    return numerator, denominator


def mentions_side(clusters, others):
    """Section 6, mentions: those that the other side has, too, and all mentions of this side."""
    mine = [mention for cluster in clusters for mention in cluster]
    return len([mention for mention in mine if cluster_with(mention, others) is not None]), len(
        mine
    )


def muc_side(clusters, others):
    """Section 6, MUC (Vilain 1995): size minus parts of its partition by the other side; a missing
    mention is its own part.
    """
    numerator, denominator = 0, 0
    for cluster in clusters:
        parts = []
        for mention in cluster:
            part = cluster_with(mention, others) or [mention]
            if part not in parts:
                parts.append(part)
        numerator += len(cluster) - len(parts)
        denominator += len(cluster) - 1
    return numerator, denominator


def bcub_side(clusters, others):
    """Section 6, B-cubed (Bagga and Baldwin 1998): per mention the share of its cluster that is
    with it on the other side.
    """
    numerator, denominator = 0.0, 0
    for cluster in clusters:
        for mention in cluster:
            other = cluster_with(mention, others) or []
            numerator += len([m for m in cluster if m in other]) / len(cluster)
            denominator += 1
    return numerator, denominator


def phi4(one, two):
    """Section 6, CEAF (Luo 2005): the similarity phi4 of two clusters."""
    return 2 * len([mention for mention in one if mention in two]) / (len(one) + len(two))


def best_assignment(clusters, others):
    """Section 6, CEAF: the best total phi4 of a one-to-one assignment, by trying every ordered
    choice of partners.
    """
    smaller, larger = (clusters, others) if len(clusters) <= len(others) else (others, clusters)
    best = 0.0
    for partners in itertools.permutations(larger, len(smaller)):
        best = max(best, sum(phi4(one, two) for one, two in zip(smaller, partners, strict=True)))
    return best


def linked_groups(clusters, others):
    """Section 6, CEAF: both sides split into groups without a common mention, so phi4 across groups
    is 0 (all at once takes too long).
    """
    groups = []
    for side, cluster in [(0, c) for c in clusters] + [(1, c) for c in others]:
        merged = ([], [])
        merged[side].append(cluster)
        untouched = []
        for group in groups:
            if any(mention in other for other in group[0] + group[1] for mention in cluster):
                merged[0].extend(group[0])
                merged[1].extend(group[1])
            else:
                untouched.append(group)
        groups = untouched + [merged]
    return groups


def ceafe_side(clusters, others):
    """Section 6, CEAF-phi4: the best one-to-one assignment and the clusters of this side."""
    return sum(
        best_assignment(mine, theirs) for mine, theirs in linked_groups(clusters, others)
    ), len(clusters)


def total_ratio(pairs):
    """Section 6: numerators and denominators summed over all segments, then divided."""
    pairs = list(pairs)
    return divide(sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs))


def coreference_segments(outputs, references, g):
    """Section 6: (ann_idx, key clusters, system clusters) of every segment whose prediction has
    Ev1, for reference g.
    """
    segments = []
    for ann_idx in range(len(references)):
        if "Ev1" in outputs[ann_idx]:
            key = key_mentions(references[ann_idx][g])
            system = system_mentions(outputs[ann_idx], key)
            segments.append((ann_idx, clusters_of(key), clusters_of(system)))
    return segments


def coreference(outputs, references, cider_of):
    """Section 6: each co-reference score, the mean over the references g of its F1;
    cider_of[ann_idx][mention].
    """
    sides = {
        "lea": lea_side,
        "mentions": mentions_side,
        "muc": muc_side,
        "bcub": bcub_side,
        "ceafe": ceafe_side,
    }
    f_ones = {name: [] for name in list(sides) + ["lea_soft"]}
    for g in range(len(references[0])):
        segments = coreference_segments(outputs, references, g)
        for name, side in sides.items():
            precision = total_ratio(side(system, key) for _, key, system in segments)
            recall = total_ratio(side(key, system) for _, key, system in segments)
            f_ones[name].append(f_one(precision, recall))
        soft_precision = total_ratio(
            lea_soft_precision_side(system, key, cider_of[i]) for i, key, system in segments
        )
        lea_recall = total_ratio(lea_side(key, system) for _, key, system in segments)
        f_ones["lea_soft"].append(f_one(soft_precision, lea_recall))
    return {name: mean(values) for name, values in f_ones.items()}


def roles(predictions, split, annotations):
    """Sections 4 to 6: caption metrics over all items, per verb and per role, and the co-reference
    scores.
    """
    outputs = {
        ann_idx: prediction["vb_output"]
        for ann_idx, prediction in first_predictions(predictions).items()
    }
    references = permuted_references(annotations, split)
    items = role_items(outputs, references)
    result = caption_metrics(items)
    by_verb, by_role = (
        grouped_caption_metrics(items, "verb"),
        grouped_caption_metrics(items, "role"),
    )
    for name in CAPTION_METRICS:
        result[f"MacroVb_{name}"] = mean(values[name] for values in by_verb.values())
        result[f"MacroArg_{name}"] = mean(values[name] for values in by_role.values())
        for role in by_role:
            result[f"{role}_{name}"] = by_role[role][name]
    cider_of = [{} for _ in references]
    for item, score in zip(items, cider_scores(items), strict=True):
        cider_of[item["ann_idx"]][item["mention"]] = score
    result.update(coreference(outputs, references, cider_of))
    return result


def lvu(task, predictions, targets):
    """Section 8: mean squared error of the mean window (regression) or accuracy of the summed
    windows, per video.
    """
    scores = []
    for video, target in targets.items():
        windows = predictions[video]
        if task in REGRESSION_TASKS:
            scores.append((mean(window[0] for window in windows) - target) ** 2)
        else:
            sums = [sum(window[c] for window in windows) for c in range(len(windows[0]))]
            scores.append(1 if sums.index(max(sums)) == target else 0)
    return mean(scores)


def ranks(scores, higher_is_better):
    """Section 8: 1 + better models + half of the equal others, per task; higher_is_better: one
    truth value per task, or one for all.
    """
    result = []
    for model in scores:
        row = []
        for task, own in enumerate(model):
            higher = (
                higher_is_better if isinstance(higher_is_better, bool) else higher_is_better[task]
            )
            column = [other[task] for other in scores]
            better = len([s for s in column if (s > own if higher else s < own)])
            row.append(1 + better + (column.count(own) - 1) / 2)
        result.append(row)
    return result
