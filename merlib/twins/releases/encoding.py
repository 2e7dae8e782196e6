"""Audio and video files with the same bits every time: one thread, and no time of writing in the file."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import soundfile

from merlib.twins.releases.voice import RATE

CODECS = {  # of video and audio, by suffix
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "24", "threads": "1"}, "aac", 64_000),
    ".avi": ("mpeg4", {"qscale": "4", "flags": "+qscale+bitexact", "threads": "1"}, "pcm_s16le", None),
}


def write_audio(file: Path, audio: np.ndarray) -> None:
    """A mono wav of 16 bits at `RATE` from samples in [-1, 1] (s)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, audio, RATE, subtype="PCM_16")


def write_video(file: Path, frames: Iterable[np.ndarray], *, fps: int, audio: np.ndarray) -> None:
    """An mp4 (H.264 and AAC) or avi (MPEG-4 and PCM) of frames (h w 3 RGB bytes) and audio (s channels)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    codec, options, audio_codec, bits = CODECS[file.suffix]
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(codec, rate=fps, options=options, pix_fmt="yuv420p")
        track = container.add_stream(audio_codec, rate=RATE, layout="mono" if audio.shape[1] == 1 else "stereo")
        if bits:
            track.bit_rate = bits
        for i, pixels in enumerate(frames):
            if not i:
                video.height, video.width = pixels.shape[:2]
                _encode_audio(container, track, audio)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode())


def _encode_audio(container: av.container.OutputContainer, stream: av.AudioStream, audio: np.ndarray) -> None:
    """All samples (s channels), in the pieces that the codec takes."""
    stream.codec_context.open()
    piece = stream.codec_context.frame_size or RATE
    planes = np.ascontiguousarray(audio.T, dtype=np.float32)
    for start in range(0, planes.shape[1], piece):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[:, start : start + piece]), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate, frame.pts = RATE, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
