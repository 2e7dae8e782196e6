"""The extractors of each paper: the encoders that it names, those that take their place, and its numbers."""

import pytest

from merlib import declarations
from merlib.features import vision
from merlib.roots import extract

TEXT = {
    "attsf_net": {"encoder": "bert-base-uncased", "pool": "tokens"},
    "gia_mic": {"encoder": "roberta-base", "pool": "tokens"},
    "hff": {"encoder": "bert-base-uncased", "pool": "cls_mean"},
    "mfcre": {"encoder": "roberta-base", "pool": "cls", "context": "dialogue"},
    "mpaf_net": {"encoder": "bert-base-uncased", "pool": "tokens", "max_tokens": 128},
}
OTHERS = {  # modality -> where its pretrained weights come from
    "attsf_net": {"visual": "EfficientFace_Trained_on_AffectNet7.pth.tar"},
    "gia_mic": {"audio": "microsoft/wavlm-large", "visual": "openai/clip-vit-large-patch14"},
    "hff": {"visual": "resnet18.pth"},
    "mfcre": {"visual": "resnet101_vggface2.pth"},
    "mpaf_net": {},
}


FROZEN = {"text": "text", "audio": "audio", "visual": "visual"}  # not what a network reads whose encoders learn


@pytest.mark.parametrize("paper", declarations.papers())
def test_an_encoder_is_the_papers_own_unless_another_is_named(paper):
    corpus = declarations.load(paper).corpora[0]
    data = extract.declared_data(paper, corpus) | FROZEN
    plain = extract.extractors(paper, corpus, data=data)
    assert list(plain) == ["text", "audio", "visual"] and plain["text"] == TEXT[paper]
    for modality, name in OTHERS[paper].items():
        assert repr(name) in repr(plain[modality])
    for modality in ("text", *OTHERS[paper]):
        own = extract.extractors(paper, corpus, weights={modality: "/own/weights"}, data=data)
        assert repr("/own/weights") in repr(own[modality]) and repr("/own/weights") not in repr(plain[modality])
        assert {m: own[m] for m in own if m != modality} == {m: plain[m] for m in plain if m != modality}


@pytest.mark.parametrize("paper", declarations.papers())
def test_without_the_papers_weights_faces_give_expressions_of_15_frames_at_most(paper):
    corpus = declarations.load(paper).corpora[0]
    data = extract.declared_data(paper, corpus) | FROZEN
    usual = extract.extractors(paper, corpus, data=data)["visual"]
    for frames in (7, 15, 40):
        visual = extract.extractors(paper, corpus, kind="offline", data=data | {"frames": frames})["visual"]
        if paper == "mpaf_net":  # its faces need no weights
            assert type(visual) is type(usual) and visual.frames == frames
        else:
            assert getattr(visual, "of", visual) == vision.FerFaces(frames=min(frames, 15))
    if paper in ("hff", "mfcre"):  # whose own vectors of a face need not say how many frames
        without = {name: value for name, value in data.items() if name != "frames"}
        assert extract.extractors(paper, corpus, kind="offline", data=without)["visual"].of == vision.FerFaces(
            frames=15
        )


def test_resnets_layers_are_those_of_the_reading():
    for layers in (18, 34):
        data = extract.declared_data("hff", "iemocap6", {"readings.visual": f"resnet{layers}"})
        visual = extract.extractors("hff", "iemocap6", data=data)["visual"]
        assert (visual.layers, visual.weights) == (layers, f"resnet{layers}.pth")
