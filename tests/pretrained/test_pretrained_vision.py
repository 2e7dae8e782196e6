"""Published vision networks: the real loading code on real weights where a package has them, else on random ones."""

import json
import pickle

import h5py
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from videos import ASTRONAUT, scenes, video

from merlib.data.batches import as_float32
from merlib.features import faces, mtcnn_faces, vision
from merlib.features.decoding import Clip, MediaError
from merlib.features.faces import HaarFaces
from merlib.features.mtcnn_faces import MtcnnFaces
from merlib.features.vision import ClipFaces, EfficientFaces, FerFaces, ResNetFrames, VisExtNet
from merlib.papers.attsf_net.video import Faces as FaceEncoder
from merlib.pretrained import encoders, mini_xception, resnet, weights
from merlib.pretrained.efficientface import EfficientFace
from merlib.pretrained.resnet import ResNet

FRAMES = scenes()


@pytest.fixture
def clip(tmp_path) -> Clip:
    """Six frames: the small face, two faces, noise, a face at the edge, none, the face mirrored."""
    return Clip("u", video(tmp_path / "video.mkv", FRAMES))


@pytest.fixture
def nothing(tmp_path) -> Clip:
    return Clip("u", video(tmp_path / "nothing.mkv", FRAMES[[4, 4]]))


def alive(network: torch.nn.Module, size: int = 64) -> torch.nn.Module:
    """Random norms with the statistics of random frames; through those of a new network, next to nothing comes."""
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.rand(8, 3, size, size))
    return network.eval()


def random_resnet(layers: int, classes: int | None = 10) -> ResNet:
    torch.manual_seed(layers)
    return alive(ResNet(layers=layers, classes=classes))


def saved(network, path) -> str:
    torch.save(network.state_dict(), path)
    return str(path)


# --- mini-XCEPTION ---------------------------------------------------------------------------------------------------


def windows(x: np.ndarray, size: int, stride: int, around: str, fill: float = 0) -> np.ndarray:
    """b y x c -> b y' x' c size size, with Keras' padding: what is odd goes to the end."""
    if around == "same":
        gap = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:3]]
        x = np.pad(x, [(0, 0), *((g // 2, g - g // 2) for g in gap), (0, 0)], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]


def keras(path, x: np.ndarray) -> dict[str, np.ndarray]:
    """What every layer gives, by plain numpy, from the layers that the file itself describes. x: b 64 64 1."""
    with h5py.File(path) as file:
        config, kept = json.loads(file.attrs["model_config"])["config"], file["model_weights"]
        values = {"input_1": x.astype(np.float64)}
        for layer in config["layers"][1:]:
            kind, name, how = layer["class_name"], layer["name"], layer["config"]
            inputs = [values[node[0]] for node in layer["inbound_nodes"][0]]
            held = {
                key.split(":")[0]: node[()].astype(np.float64) for key, node in kept[name].get(f"{name}_1", {}).items()
            }
            values[name] = keras_layer(kind, how, inputs, held)
    return values


def keras_layer(kind: str, how: dict, inputs: list[np.ndarray], held: dict[str, np.ndarray]) -> np.ndarray:
    x = inputs[0]
    if kind in ("Conv2D", "SeparableConv2D", "MaxPooling2D"):
        size = how.get("kernel_size", how.get("pool_size"))[0]
        fill = -np.inf if kind == "MaxPooling2D" else 0
        seen = windows(x, size, how["strides"][0], how["padding"], fill)
    if kind == "Conv2D":
        return np.einsum("bijcyx,yxco->bijo", seen, held["kernel"]) + held.get("bias", 0)
    if kind == "SeparableConv2D":
        return np.einsum("bijcyx,yxc->bijc", seen, held["depthwise_kernel"][..., 0]) @ held["pointwise_kernel"][0, 0]
    if kind == "MaxPooling2D":
        return seen.max((-1, -2))
    if kind == "BatchNormalization":
        scale = held["gamma"] / np.sqrt(held["moving_variance"] + how["epsilon"])
        return (x - held["moving_mean"]) * scale + held["beta"]
    if kind == "Activation" and how["activation"] == "softmax":
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    plain = {"Activation": lambda: np.maximum(x, 0), "Add": lambda: sum(inputs)}
    return {**plain, "GlobalAveragePooling2D": lambda: x.mean((1, 2))}[kind]()


def test_mini_xception_gives_what_the_keras_file_describes():
    grey = np.stack(
        [faces.crop(ASTRONAUT, box, size=64, grey=True) for box in np.array([[150, 30, 290, 170], [0, 0, 99, 99]])]
    )
    expected = keras(vision._fer_file(), (grey[..., None] / 255 - 0.5) * 2)
    found = vision.expressions(grey)
    np.testing.assert_allclose(found["probabilities"], expected["predictions"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["features"], expected["add_4"].mean((1, 2)), rtol=1e-3, atol=1e-4)


def test_the_smiling_astronaut_is_happy(tmp_path):
    clip = Clip("u", video(tmp_path / "video.mkv", [ASTRONAUT[:300, 60:360]] * 2))
    rows = FerFaces(frames=2, output="probabilities")(clip)
    assert rows.shape == (2, 7) and [mini_xception.EMOTIONS[k] for k in rows.argmax(1)] == ["happy"] * 2
    assert FerFaces(frames=2)(clip).shape == (2, 128)


def test_faces_at_the_edge_of_a_frame_have_a_border():
    grey = np.full((80, 70, 3), 200, np.uint8)
    grey[-2:] = 100
    cut = vision.fer_crop(grey, np.array([0.0, 0.0, 44.0, 44.0]))
    assert cut.shape == (64, 64) and (cut[:8] == 100).all() and (cut[12:, 12:] == 200).all()


# --- ResNet ----------------------------------------------------------------------------------------------------------


def in_their_names(state: dict) -> dict:
    """The weights of a ResNet in the names of Hugging Face's, without the classifier."""
    theirs = {}
    for key, value in state.items():
        part, *rest = key.split(".")
        if part == "fc":
            continue
        unit = "convolution" if "conv" in key or rest[-2:-1] == ["0"] else "normalization"
        place = "embedder.embedder."
        if part.startswith("layer"):
            where = "shortcut" if rest[1] == "downsample" else f"layer.{int(rest[1][-1]) - 1}"
            place = f"encoder.stages.{int(part[5:]) - 1}.layers.{rest[0]}.{where}."
        theirs[f"{place}{unit}.{rest[-1]}"] = value
    return theirs


def their_resnet(layers: int) -> transformers.ResNetModel:
    block, counts = resnet.LAYERS[layers]
    kind, widths = ("basic", [64, 128, 256, 512]) if block is resnet.Basic else ("bottleneck", [256, 512, 1024, 2048])
    config = transformers.ResNetConfig(layer_type=kind, depths=list(counts), hidden_sizes=widths, embedding_size=64)
    return transformers.ResNetModel(config).eval()


@pytest.mark.parametrize("layers", [18, 50])
def test_resnet_is_the_published_one(layers):
    network, theirs = random_resnet(layers), their_resnet(layers)
    theirs.load_state_dict(in_their_names(network.state_dict()))
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs(x).pooler_output[..., 0, 0]
        torch.testing.assert_close(network(x), network.fc(expected), rtol=1e-3, atol=1e-3)
    assert expected.shape == (2, network.width) and expected.std(0).mean() > 0.01  # so there is something to compare


@pytest.mark.parametrize(
    ("layers", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)]
)
def test_resnets_have_as_many_parameters_as_published(layers, parameters):
    """The numbers of torchvision's documentation."""
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet(layers=layers, classes=1000).parameters()) == parameters


def test_every_parameter_of_a_resnet_receives_gradient():
    network = ResNet(layers=18, classes=3)
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]


def test_frames_are_prepared_as_the_weights_were_trained():
    frame = FRAMES[0]
    short = Image.fromarray(frame).resize((256 * 240 // 200, 256), Image.Resampling.BILINEAR)
    left = round((short.width - 224) / 2)
    expected = np.asarray(short)[16:240, left : left + 224] / 255
    found = resnet.standardised(torch.from_numpy(frame[None]))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found * resnet.STD + resnet.MEAN, expected, atol=1 / 255)


def test_other_numbers_of_layers_are_refused():
    with pytest.raises(ValueError, match="layers=19: a ResNet here has one of 18, 34, 50, 101"):
        ResNet(layers=19, classes=None)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_published_weights_load_from_the_data_folder(data_folder, name):
    network = random_resnet(18)
    (data_folder / "weights").mkdir(parents=True)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}  # as old files
    if name.endswith("pth"):
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, data_folder / "weights" / name)
    else:
        save_file(state, data_folder / "weights" / name)
    x = torch.rand(1, 3, 64, 64)
    whole = resnet.published(name, layers=18, classifier=True)
    torch.testing.assert_close(whole(x), network(x).detach())
    torch.testing.assert_close(network.fc(resnet.published(name, layers=18, classifier=False)(x)), network(x))
    assert not whole.training and not any(p.requires_grad for p in whole.parameters())


@pytest.mark.parametrize("prefix", ["backbone.", "module.encoder."])
def test_a_prefix_of_all_names_is_taken_off(tmp_path, prefix):
    network = random_resnet(18)
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    x = torch.rand(1, 3, 64, 64)
    whole = resnet.published(str(tmp_path / "net.pth"), layers=18, classifier=True)
    torch.testing.assert_close(whole(x), network(x).detach())
    torch.save(state | {"other": x}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"1 unexpected \(other\)"):
        resnet.published(str(tmp_path / "net.pth"), layers=18, classifier=True)


class Meter:
    """Something of a training script that a checkpoint may hold."""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"no tensors at all", "damaged"),
        ({"meter": Meter()}, "holds more than tensors"),
        ({"epoch": 3}, "no tensors by name"),
        ({"conv1.weight": torch.zeros(3)}, r"\d+ missing \(bn1.bias.*1 of another shape \(conv1.weight \(3,\)\)"),
        ({"what": torch.zeros(3)}, r"1 unexpected \(what\)"),
    ],
    ids=["empty", "text", "code", "none", "shape", "unexpected"],
)
def test_weights_that_cannot_be_are_named(tmp_path, content, says):
    path = tmp_path / "net.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=f"net.pth.*{says}"):
        resnet.published(str(path), layers=18, classifier=False)


def test_absent_weights_say_where_they_belong(data_folder):
    with pytest.raises(ValueError, match="weights/nowhere.pth is not there: get these weights"):
        weights.located("nowhere.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, data_folder.parent / "headless.pth")
    with pytest.raises(ValueError, match="has no classifier"):
        resnet.published(str(data_folder.parent / "headless.pth"), layers=18, classifier=True)


# --- extractors ------------------------------------------------------------------------------------------------------


def test_resnet_frames_are_the_mean_over_frames(tmp_path, clip, monkeypatch):
    network = random_resnet(18)
    path = saved(network, tmp_path / "net.pth")
    monkeypatch.setattr(vision, "TOGETHER", 4)
    found = ResNetFrames(weights=path)(clip)
    assert found.shape == (1, 512) and found.dtype == np.float32
    with torch.inference_mode():
        network.fc = torch.nn.Identity()
        each = network(resnet.standardised(torch.from_numpy(FRAMES))).numpy()
    assert each.std(0).mean() > 0.01
    np.testing.assert_allclose(found[0], each.mean(0), rtol=1e-3, atol=1e-3)
    two = ResNetFrames(weights=path, frames=2)(clip)
    np.testing.assert_allclose(two[0], each[[1, 4]].mean(0), rtol=1e-3, atol=1e-3)


def test_visextnet_counts_every_face_once(tmp_path, clip, nothing):
    network = random_resnet(18, classes=5)
    extract = VisExtNet(weights=saved(network, tmp_path / "net.pth"), layers=18, faces=MtcnnFaces(frames=6, size=64))
    found = mtcnn_faces.detect(FRAMES)
    assert len(found.frame) > len(set(found.frame.tolist()))  # one frame has two
    crops = [faces.crop(FRAMES[i], box.numpy(), size=64) for i, box in zip(found.frame, found.box, strict=True)]
    with torch.inference_mode():
        scores = network(resnet.standardised(torch.from_numpy(np.stack(crops)), size=64, short=64)).numpy()
    np.testing.assert_allclose(
        extract(clip), scores.mean(0, keepdims=True), rtol=1e-2, atol=1e-2 * np.abs(scores).max()
    )
    with pytest.raises(MediaError, match="no face in 6 frames"):
        extract(nothing)


def test_clip_faces_are_embeddings_of_the_crops(tmp_path, clip, nothing):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=12, **sizes)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    square = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    transformers.CLIPImageProcessor(**square).save_pretrained(tmp_path / "clip")
    detector = MtcnnFaces(frames=4, spread=False, size=32)
    extract = ClipFaces(encoder=str(tmp_path / "clip"), faces=detector)
    found = extract(clip)
    assert found.shape == (4, 12) and found.dtype == np.float32
    with torch.inference_mode():
        expected, _ = encoders.Images(str(tmp_path / "clip"), "cpu")([detector.faces(clip).pixels])
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)
    assert found.std(0).mean() > 1e-3
    assert ClipFaces().faces == MtcnnFaces(frames=180, spread=False)
    with pytest.raises(MediaError, match="no face"):
        extract(nothing)
    assert extract.about()["extractor"].startswith("clip embeddings of MTCNN's largest face, 32x32, 4 frames")


def test_efficient_faces_are_its_vectors_of_crops_in_0_to_1(tmp_path, clip):
    torch.manual_seed(0)
    network = alive(EfficientFace(classes=7))
    detector = MtcnnFaces(frames=6, size=64)
    path = saved(network, tmp_path / "net.pth")
    found = EfficientFaces(weights=path, faces=detector)(clip)
    pixels = torch.from_numpy(detector.faces(clip).pixels)
    assert found.shape == (6, 1024) and found.std(0).mean() > 0.01 and 0 <= pixels.min() < pixels.max() <= 255
    with torch.inference_mode():
        scores = network(pixels.permute(0, 3, 1, 2) / 255)
        torch.testing.assert_close(network.fc(torch.from_numpy(found)), scores, rtol=1e-3, atol=1e-4)
        plain = {"flip_horizontal": False, "flip_vertical": False, "rotate_degrees": 0.0, "center_crop": 1.0}
        tuned = FaceEncoder(width=3 * 64 * 64, steps=6, weights=path, freeze=False, augment=plain).eval()
        rows = as_float32(torch.from_numpy(detector(clip)))[None]
        seen, _ = tuned(rows, torch.ones(1, 6, dtype=torch.bool))  # what ATTSF-Net fine-tunes reads the same frames
        torch.testing.assert_close(seen[0], torch.from_numpy(found), rtol=1e-3, atol=1e-4)


def test_extractors_go_to_other_processes():
    every = [HaarFaces(), MtcnnFaces(), ClipFaces(), EfficientFaces(), FerFaces()]
    every += [ResNetFrames(weights="net.pth"), VisExtNet(weights="net.pth", faces=MtcnnFaces(min_face=40))]
    for extract in every:
        again = pickle.loads(pickle.dumps(extract))
        assert again == extract and repr(again) == repr(extract) and again.modality == "visual"


def test_passports_tell_networks_and_weights_apart(tmp_path):
    paths = [saved(torch.nn.Linear(1, n), tmp_path / f"{n}.pth") for n in (2, 3)]
    for kind in (ResNetFrames, VisExtNet):
        one, other = (kind(weights=path, layers=18).about() for path in paths)
        assert one["weights_sha256"] != other["weights_sha256"] and set(one) == set(other)
        assert one["extractor"] == other["extractor"] and "ResNet-18" in one["extractor"]
    assert FerFaces().about()["extractor"] != FerFaces(output="probabilities").about()["extractor"]
    assert "AffectNet-7; detector: WIDER FACE" in EfficientFaces(weights=paths[0]).about()["trained_on"]
