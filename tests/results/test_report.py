"""The report page, without a browser: landmarks, headings, texts for pictures, policy, colours."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from hiermovie.base import write_json, write_table
from hiermovie.minimovies import World, render_videos, write_vidsitu
from hiermovie.results import (
    COLOURS,
    PAGE_COLOURS,
    TABLE_TITLES,
    abstract_section,
    audit_section,
    claims_section,
    contrast,
    costs_section,
    data_of,
    data_section,
    draw_losses,
    draw_tables,
    film_section,
    footer_words,
    gather,
    idea_section,
    inside_section,
    judge_claims,
    runs_for_report,
    save_svg,
    show_claims,
    tables_section,
    training_section,
    was_tested,
    words_section,
    write_page,
    write_tables,
)
from hiermovie.vidsitu import EVENTS, read_segments, score, short_role, write_predictions

NASTY = "<script>alert('note')</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    "What a test needs of a page: its elements in order, and the text of each."

    def __init__(self, text):
        super().__init__()
        self.text, self.elements, self.open = text, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        element = dict(tag=tag, text="", inside=[e["tag"] for e in self.open], **dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(dict(tag=tag, text="", inside=[], **dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [e for e in self.elements if e["tag"] == tag]


def write_run(folder, name, params, metrics):
    made = dict(seconds=3.0, start_up=1.0, peak_memory_mb=700, commit="abc", device="cpu, 2 cores")
    made |= dict(python="3.11", versions=dict(torch="2.15"), key="k", reads={})
    for file, content in (("params", params), ("metrics", metrics), ("provenance", made)):
        write_json(folder / name / f"{file}.json", content)


def said(annotation):
    args = {ev: annotation[ev]["Args"].items() for ev in EVENTS}
    return {ev: {short_role(k): text for k, text in a} for ev, a in args.items()}


def predictions_of(valid, task, knows):
    out = []
    for i, (anns, info) in enumerate(zip(valid.annotations, valid.vinfo, strict=True)):
        first = "none.01" if not knows else None
        verbs = [
            [first or info["vbid_lst"][ev][0], "a.01", "b.01", "c.01", "d.01"] for ev in EVENTS
        ]
        relations = [["NoRel"] * 3] * 4
        answers = dict(pred_vbs_ev=verbs, vb_output=said(anns[0]), pred_evrels_ev=relations)
        key = dict(verbs="pred_vbs_ev", roles="vb_output", relations="pred_evrels_ev")[task]
        out.append({"ann_idx": i, key: answers[key]})
    return out


def head_run(folder, valid, name, task, features, knows, seeds=3):
    predicted = predictions_of(valid, task, knows)
    for s in range(seeds):
        write_predictions(folder / name / f"predictions_seed{s}", task, predicted, valid.ids)
    scores = score(task, predicted, valid)
    metrics = dict(task=task, n=len(valid.ids), of=len(valid.ids))
    metrics |= dict(scores=[dict(scores, seed=s) for s in range(seeds)])
    metrics |= dict(baselines=dict(majority=scores, random=scores))
    params = dict(data_run="data", features_run=features, contextualizer="none")
    write_run(folder, name, params, metrics)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Made-up runs: contrastive features know every verb, supervised ones none."
    folder = tmp_path_factory.mktemp("runs")
    world = World(width=48, height=48, fps=8)
    jobs = write_vidsitu(folder / "data", world, 1, 6)
    render_videos(folder / "data", jobs, world, workers=1)
    valid = read_segments(folder / "data/vidsitu/vidsitu_annotations", "valid")
    write_run(folder, "data", dict(seed=0), dict(fingerprint="f", videos=7, seconds=dict(lvu=70)))
    write_json(folder / "data/root.json", dict(root=""))
    for what in ("cvrl", "supervised"):
        loss = dict(first_loss=2.0, last_loss=1.0, steps=40, seed=0)
        params = dict(objective=what, seed=0, data_run="data", labelled=100, epochs=2)
        write_run(folder, f"backbone-{what}", params, loss)
        write_table(
            folder / f"backbone-{what}/log.csv",
            pd.DataFrame(dict(step=range(40), loss=[2 - k / 40 for k in range(40)])),
        )
        write_run(folder, f"features-{what}", dict(backbone_run=f"backbone-{what}"), {})
        features, knows = f"features-{what}", what == "cvrl"
        head_run(folder, valid, f"verbs-{what}", "verbs", features, knows)
    head_run(folder, valid, "roles-cvrl", "roles", "features-cvrl", True)
    head_run(folder, valid, "relations-cvrl", "relations", "features-cvrl", True)
    shown = {f"{task}_run": f"{task}-cvrl" for task in ("verbs", "roles", "relations")}
    shown |= dict(data_run="data", contextualizer_run="backbone-cvrl")
    write_run(folder, "gallery", shown, dict(looks_at_itself=0.2, segment=valid.ids[0]))
    write_run(folder, "report", {}, {})
    return folder


@pytest.fixture(scope="module")
def tested(folder):
    return judge_claims(gather(runs_for_report(folder)), 10)


def page_of(folder, tested):
    runs = gather(runs_for_report(folder))
    data, out = data_of(runs), folder / "report"
    tables = write_tables(out, runs)
    draw_tables(tables, out)
    draw_losses(runs, out)
    save_svg(show_claims(tested), out / "claims.svg")
    sections = [
        abstract_section(tested, data, len(runs), out, NASTY),
        idea_section(out),
        film_section(runs),
        claims_section(tested, out, 10),
        tables_section(tables, runs, data, out, folded=not was_tested(tested)),
        training_section(runs, out),
        inside_section(runs),
        audit_section(runs),
        data_section(runs, data),
        words_section(),
        costs_section(runs, data, out),
    ]
    write_page(out / "index.html", f"Report {NASTY}", "lead", sections, footer_words(runs))
    return Page((out / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(folder, tested):
    return page_of(folder, tested)


def test_landmarks_and_headings(page):
    for tag in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(tag)) == 1, tag
    levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch(r"h[1-6]", e["tag"])]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert all(e["text"].strip() for e in page.elements if re.fullmatch(r"h[1-6]", e["tag"]))
    assert [e["lang"] for e in page.all("html")] == ["en"]


def test_every_anchor_leads_somewhere_and_ids_are_unique(page):
    ids = [e["id"] for e in page.elements if "id" in e]
    assert len(set(ids)) == len(ids)
    local = [e["href"][1:] for e in page.all("a") if e["href"].startswith("#")]
    local += re.findall(r"url\(#([^)]*)\)", page.text)
    local += [e["href"][1:] for e in page.all("use")]
    assert set(local) <= set(ids)
    sections = [e["id"] for e in page.all("section")]
    assert sections[:5] == ["short", "idea", "films", "claims", "tables"]
    assert [a["href"][1:] for a in page.all("a") if "nav" in a["inside"]] == sections


def test_pictures_and_films_have_texts(page):
    pictures = page.all("img")
    assert len(pictures) >= 5 and all(len(p["alt"]) > 10 for p in pictures)
    drawings = [e for e in page.all("svg")]
    assert len(drawings) >= 4
    assert all(e["role"] == "img" and len(e["aria-label"]) > 10 for e in drawings)
    assert page.all("video") and all(len(e["aria-label"]) > 10 for e in page.all("video"))
    for frame in (e for e in page.elements if e.get("class") == "frame"):
        assert frame["tabindex"] == "0" and frame["role"] == "region" and frame["aria-label"]


def test_nothing_is_loaded_or_run(page):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert not [e for e in page.elements if "style" in e], "the policy forbids style attributes"
    assert not [k for e in page.elements for k in e if k.startswith("on")]
    assert [e["inside"][-1] for e in page.all("style")] == ["head"]
    policy = next(e["content"] for e in page.all("meta") if "content" in e)
    style = re.search(r"<style>(.*?)</style>", page.text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    sources = [e["src"] for e in page.elements if "src" in e]
    sources += [e["href"] for e in page.all("image")]
    assert sources and all(s.startswith("data:") for s in sources)


def test_text_is_escaped(page):
    assert NASTY in page.all("h1")[0]["text"] and NASTY in page.all("main")[0]["text"]
    assert "<script" not in page.text


def test_claims_have_five_columns(page):
    table = page.text[page.text.index('id="claims"') :]
    table = table[: table.index("</table>")]
    heads = re.findall(r'<th scope="col">(.*?)</th>', table)
    assert heads == ["claim", "task", "difference", "95% interval", "verdict"]
    groups = re.findall(r'<th scope="rowgroup" rowspan="(\d)">(.*?)</th>', table)
    assert len({claim for _, claim in groups}) == len(groups), "each claim stands there once"
    assert "✓ holds here" in table and "+100.0" in table


def test_an_answer_is_marked_as_its_score_counts_it(page):
    films = page.text[page.text.index('id="films"') : page.text.index('id="claims"')]
    assert "CIDEr times 100" in films and "at least one annotator" in films
    answers = re.findall(r"right: (\d+) of (\d+)", films)
    assert answers and all(2 * int(x) >= int(best) for x, best in answers)
    assert films.count("<video") == len(re.findall("verbs right: v_", films))
    assert len({e["src"] for e in page.all("video")}) == films.count("<video"), "each film once"


def test_the_abstract_has_a_result_and_says_when_nothing_could_be_tested(folder, page, tested):
    assert "One result" in page.text and "beats supervised pretraining" in page.text
    nothing = tested.assign(verdict="cannot be tested here", detail="2 seeds")
    small = page_of(folder, nothing)
    assert "Everything ran: all " in small.text
    assert small.text.count("cannot be tested") == 0
    assert "claims" not in [e["id"] for e in small.all("section")]
    assert len(small.all("video")) == len(page.all("video"))
    titles = [e["text"] for e in small.all("h3") if "summary" in e["inside"]]
    assert set(TABLE_TITLES.values()) <= set(titles)


def test_what_is_folded_is_printed(page):
    style = page.all("style")[0]["text"]
    printed = style[style.index("@media print") :]
    assert page.all("details") and "details::details-content{content-visibility:visible" in printed
    assert "@media screen and (prefers-color-scheme:dark)" in style, "paper is never dark"


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(mode):
    texts = [k for k in PAGE_COLOURS if k not in ("ground", "panel", "line")]
    for ground in ("ground", "panel"):
        for text in texts:
            a, b = PAGE_COLOURS[text][mode], PAGE_COLOURS[ground][mode]
            assert contrast(a, b) >= 4.5, (text, ground)


def test_figures_have_contrast_in_both_modes(page):
    style = page.all("style")[0]["text"]
    for colour in COLOURS:
        lighter = re.search(rf'\.chart \[fill="{colour}"\]{{fill:(#\w+)}}', style)[1]
        assert contrast(colour, PAGE_COLOURS["ground"][0]) >= 4.5
        assert contrast(lighter, PAGE_COLOURS["ground"][1]) >= 4.5
    fills = {e["fill"] for e in page.all("text") if "fill" in e}
    assert fills <= {"currentColor", "#696969", *COLOURS}, "text in a colour that nobody checked"


def test_links_lead_to_executed_notebooks(page):
    links = [e["href"] for e in page.all("a") if not e["href"].startswith("#")]
    assert "../notebooks/verbs-cvrl.html" in links
    assert all(x.startswith("../") for x in links)


def test_the_same_runs_give_the_same_page(folder, page, tested):
    assert page_of(folder, tested).text == page.text
