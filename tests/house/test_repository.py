"""The repository: stages with one parameter cell, small outputs, README, reference pages, lock,
targets.
"""

import ast
import json
import re
from dataclasses import fields

import pytest
import yaml
from conftest import ROOT
from measures import LIBRARY, NOTEBOOKS, STAGES, cells, name_of, source

from hiermovie.backbone import PretrainConfig
from hiermovie.base import (
    FILE_PARAMETERS,
    Package,
    differing_notebooks,
    notebook_defaults,
    notebook_source,
    read_module,
    read_profile,
    used_by,
)
from hiermovie.minimovies import World
from hiermovie.vidsitu import TrunkConfig

TRUNK = {f.name for f in fields(TrunkConfig)}
WORLD = {f.name for f in fields(World)}


@pytest.mark.parametrize("notebook", STAGES, ids=name_of)
def test_a_stage_has_one_parameter_cell_and_no_logic(notebook):
    names = list(notebook_defaults(notebook))
    assert "out" in names
    rest = "\n".join(
        "".join(c["source"])
        for c in cells(notebook)
        if "parameters" not in c["metadata"].get("tags", [])
    )
    tree = ast.parse(rest)
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)
    }
    config = {f.name for f in fields(PretrainConfig)} if "config_from" in read else set()
    config -= {"start"}  # filled in from backbone_run
    assert config <= set(names), "settings that the stage does not offer"
    # read by name: by `HeadData`, by the settings of a world, a trunk, an Object Transformer
    config |= {"data_run", "features_run"} if "HeadData" in read else set()
    config |= TRUNK if "TrunkConfig" in read else set()
    config |= WORLD if "World" in read else set()
    config |= {n for n in names if n.startswith("object_")} if "object_config" in read else set()
    config |= (
        {"end_token", "contextualizer_run"} if {"object_config", "TrunkConfig"} & read else set()
    )
    assert not [n for n in names if n != "out" and n not in read | config], (
        "parameters that the stage ignores"
    )
    assert not [
        n.name
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef) and n.end_lineno - n.lineno > 5
    ], "logic belongs in the library"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_stored_outputs_are_small_and_clean(notebook):
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < 400_000, f"{len(text)} characters"
    assert not [o for c in cells(notebook) for o in c["outputs"] if o["output_type"] == "error"]
    private = re.findall(
        r"(?<![\w.])/(?:home|root|Users|work|tmp)/[^\s\"\\]*",
        "\n".join("".join(c["source"]) + json.dumps(c["outputs"]) for c in cells(notebook)),
    )
    assert not private, private[:3]


@pytest.mark.parametrize("notebook", LIBRARY, ids=name_of)
def test_outputs_are_stored(notebook):
    assert any(c["outputs"] for c in cells(notebook)), "run `make notebooks`"


@pytest.mark.parametrize("profile", ["tiny", "mini", "paper", "own", "film", "packaged"])
def test_profiles_name_only_what_exists(profile):
    runs = read_profile(ROOT / f"runs/profiles/{profile}.yaml", ROOT / "nbs/stages")
    if "report" in runs:
        assert runs["report"]["needs"] == [n for n in runs if n != "report"]
    assert {r["stage"] for r in runs.values()} <= {p.stem for p in STAGES}


def test_a_stage_depends_on_the_code_that_it_uses():
    package = Package(ROOT / "hiermovie")
    stage = read_module(notebook_source(ROOT / "nbs/stages/40_verbs.ipynb"))
    used = set(used_by(stage, package))
    assert {
        ("vidsitu.verbs", "verb_loss"),
        ("contextualizer.encoder", "Contextualizer"),
        ("vidsitu.scores", "evaluate"),
        ("base.seeds", "derive_seed"),
        ("base.runs", "start_run"),
    } <= used
    chapters = {module.split(".")[0] for module, _ in used}
    assert not chapters & {"lvu", "results", "app", "minimovies"}
    assert ("vidsitu.roles", "RoleModel") not in used


@pytest.mark.parametrize("stage", ["35_pretrain_objects", "40_verbs", "41_roles", "42_relations"])
def test_the_paper_profile_has_the_settings_of_the_release(stage):
    "Whatever the preset says, `paper` says the same; both are spelled out where they are read."
    preset = yaml.safe_load((ROOT / "runs/presets.yaml").read_text())["as_released"][stage]
    paper = yaml.safe_load((ROOT / "runs/profiles/paper.yaml").read_text())["defaults"][stage]
    defaults = notebook_defaults(ROOT / f"nbs/stages/{stage}.ipynb")
    assert set(preset) <= set(defaults)
    assert {k: paper.get(k, defaults[k]) for k in preset} == preset


def test_stages_use_every_parameter_that_names_a_file():
    names = {name for notebook in STAGES for name in notebook_defaults(notebook)}
    assert set(FILE_PARAMETERS) <= names
    spoken = {
        name
        for notebook in STAGES
        for name in notebook_defaults(notebook)
        for line in source(notebook).splitlines()
        if re.match(rf"{name} = ", line)
        and re.search(
            r"# .*(a list of clips|vocabulary|weights|tokenizer|vocab.json|pkl|npz|checkpoint)",
            line,
        )
    }
    assert spoken - {"text_width"} <= set(FILE_PARAMETERS), (
        "a file that a stage reads must be in the key of its run"
    )


def test_no_notebook_differs_from_its_module():
    assert differing_notebooks(LIBRARY, ROOT / "hiermovie") == []


def test_pages_that_are_kept_allow_nothing_from_elsewhere():
    pages = sorted((ROOT / "runs/reference").rglob("*.html"))
    assert pages and all(
        "Content-Security-Policy" in p.read_text()[:2000] and "<script" not in p.read_text()
        for p in pages
    )
    private = r"[\"'>\s;](/(?:tmp|home|root|Users|work)/[\w./-]+)"
    assert [re.findall(private, p.read_text())[:1] for p in pages] == [[]] * len(pages)


def test_the_lock_is_hashed_and_names_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    assert "--index-url" not in lock and "://" not in lock
    pins = re.findall(r"^[a-zA-Z0-9_.-]+==\S+", lock, re.M)
    assert len(pins) > 100 and lock.count("--hash=sha256:") >= len(pins)
    locked = {p.split("==")[0].replace("_", "-").lower() for p in pins}
    wanted = re.findall(
        r"^(?:dev_)?requirements = (.*)$", (ROOT / "settings.ini").read_text(), re.M
    )
    assert {re.split(r"[=<>[]", r)[0].lower() for w in wanted for r in w.split()} <= locked


def test_continuous_integration_runs_the_users_command():
    assert "make test" in (ROOT / ".ci/run").read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"setup", "reproduce", "test", "lab", "clean"} <= set(targets)
    assert yaml.safe_load((ROOT / "runs/profiles/tiny.yaml").read_text())["runs"]
