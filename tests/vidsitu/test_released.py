"""The release's encoder and decoder in our modules, against outputs of fairseq itself."""

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from tokenizers import Tokenizer

from hiermovie.minimovies import World, write_vidsitu
from hiermovie.vidsitu import (
    EVENTS,
    TAGS,
    RoleVocabulary,
    decode_roles,
    encode_roles,
    gpt2_bpe,
    load_released_roles,
    read_segments,
    short_role,
    verb_vocabulary,
)

STORED = load_file(ROOT / "tests/fixtures/fairseq_txe_txd.safetensors")


class Words(list):
    "A vocabulary of 30 entries whose fill-up token is number 4."

    pad = 4


@pytest.fixture
def model(tmp_path):
    names = {k: v.float() for k, v in STORED.items() if k.startswith("state.")}
    state = {k.replace("state.", "module."): v for k, v in names.items()}
    torch.save(dict(model_state_dict=state), tmp_path / "sfast_txe_txd.pth")
    return load_released_roles(tmp_path / "sfast_txe_txd.pth", Words(range(30)), heads=4)


def difference(a, b) -> float:
    return (a - b).abs().max().item()


@torch.no_grad()
def test_txe_and_txd_equal_fairseq_at_every_place(model):
    tokens = STORED["tokens"].unflatten(0, (2, 5))
    assert difference(model.trunk(STORED["feats"]), STORED["encoded"]) < 1e-5
    logits = model(STORED["feats"], tokens).flatten(0, 1)
    assert difference(logits, STORED["logits"]) < 1e-5
    cache = model.decoder.start(model.memory(STORED["feats"]))
    for t in range(tokens.shape[2]):
        step = model.decoder.step(STORED["tokens"][:, t], cache)
        assert difference(step, STORED["logits"][:, t]) < 1e-5, t


@torch.no_grad()
def test_positions_are_what_makes_the_difference(model):
    "The same weights without the positions of the events give other numbers."
    tokens = STORED["tokens"].unflatten(0, (2, 5))
    right = model(STORED["feats"], tokens)
    model.trunk.contextualizer.positions.zero_()
    assert difference(model(STORED["feats"], tokens), right) > 0.01


def test_dropout_is_on_the_blocks_only(model):
    layers = [*model.decoder.decoder.layers, *model.trunk.contextualizer.encoder.layers]
    for layer in layers:
        assert layer.self_attn.dropout == 0 and layer.dropout.p == 0
        assert layer.dropout1.p == layer.dropout2.p == 0.1


GPT2 = ROOT.parent / "shared/reference/gpt2_bpe"


@pytest.mark.skipif(not GPT2.is_dir(), reason="GPT-2's byte pairs are not here")
def test_role_sentences_become_the_tokens_of_the_releases_vocabulary(tmp_path):
    """GPT-2's pieces under their own numbers, then a fill-up sign, verbs and tags: as the release's
    tokenizer cuts whole sentences, token for token, and back.
    """
    write_vidsitu(tmp_path, World(), 30, 2)
    segments = read_segments(tmp_path / "vidsitu/vidsitu_annotations", "train")
    bpe = gpt2_bpe(GPT2)
    pieces = sorted(bpe.get_vocab(), key=bpe.get_vocab().get)
    signs = ("<pad>", "<|endoftext|>", "<|endoftext|>")
    tokens = [*pieces, "<pad>", *verb_vocabulary(segments)[2:], *TAGS]
    words = RoleVocabulary(bpe, list(dict.fromkeys(tokens)), signs, spaced=True)
    assert words.number["Ġthe"] == 262 and words.number["<|endoftext|>"] == 50256
    whole = Tokenizer.from_str(bpe.to_str())
    whole.add_tokens(words.tokens[50257:])
    for annotated in segments.annotations:
        for name in EVENTS:
            event = annotated[0][name]
            order = sorted(event["Args"], key=event["Arg_List"].get)
            roles = "".join(f" <{short_role(n)}> {event['Args'][n]}" for n in order)
            numbers = encode_roles(words, event)
            assert numbers[1:-1] == whole.encode(roles).ids
            back = {short_role(n): text for n, text in event["Args"].items()}
            assert decode_roles(words, numbers) == back
