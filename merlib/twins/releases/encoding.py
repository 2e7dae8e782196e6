"""Sound and films written to files, the same bits every time: one thread, no time of writing in the file."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import soundfile

from merlib.twins.releases.voice import RATE

CODECS = {  # of pictures and sound, by suffix
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "24", "threads": "1"}, "aac", 64_000),
    ".avi": ("mpeg4", {"qscale": "4", "flags": "+qscale+bitexact", "threads": "1"}, "pcm_s16le", None),
}


def write_sound(file: Path, sound: np.ndarray) -> None:
    """A mono wav of 16 bits at `RATE` from samples in [-1, 1] (s)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, sound, RATE, subtype="PCM_16")


def write_film(file: Path, pictures: Iterable[np.ndarray], *, fps: int, sound: np.ndarray) -> None:
    """An mp4 (H.264 and AAC) or avi (MPEG-4 and PCM) of pictures (h w 3 RGB bytes) and sound (s channels)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    codec, options, sound_codec, bits = CODECS[file.suffix]
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as film:
        shown = film.add_stream(codec, rate=fps, options=options, pix_fmt="yuv420p")
        heard = film.add_stream(sound_codec, rate=RATE, layout="mono" if sound.shape[1] == 1 else "stereo")
        if bits:
            heard.bit_rate = bits
        for i, picture in enumerate(pictures):
            if not i:
                shown.height, shown.width = picture.shape[:2]
                _encode_sound(film, heard, sound)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            film.mux(shown.encode(frame))
        film.mux(shown.encode())


def _encode_sound(film: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    """All samples (s channels), in the pieces that the codec takes."""
    stream.codec_context.open()
    piece = stream.codec_context.frame_size or RATE
    planes = np.ascontiguousarray(sound.T, dtype=np.float32)
    for start in range(0, planes.shape[1], piece):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[:, start : start + piece]), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate, frame.pts = RATE, start
        film.mux(stream.encode(frame))
    film.mux(stream.encode())
