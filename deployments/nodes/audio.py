"""Recordings: finding one in a call, and decoding it."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from graph.errors import InvalidRequest
from graph.types import Call, Modality

if TYPE_CHECKING:
    import numpy as np

RATE = 16_000
"""Samples per second that speech models read."""
POSITIONS_PER_SECOND = 50
"""What Whisper's encoder makes of a second of sound; counted as the prompt's tokens."""
FORMATS = "wav, mp3, m4a, ogg, flac or webm"
_DEMUXERS = "wav,w64,mp3,mov,mp4,m4a,3gp,3g2,mj2,ogg,flac,matroska,webm,aac,aiff,amr,caf,asf"
"""Only containers that hold sound themselves: a playlist (HLS, concat) would make FFmpeg open what it names."""


def find_audio(call: Call, *, node: str) -> bytes:
    """Return the one recording of a call: `inputs["audio"]`, or an attachment of a message.

    Raises `InvalidRequest` if there is none or more than one, or if it is an address instead of bytes.
    """
    found = [part for part in call.attachments if part.modality is Modality.AUDIO]
    if len(found) != 1:
        got = "none" if not found else str(len(found))
        raise InvalidRequest(f"node {node!r} takes exactly one recording; got {got}", param="file", node=node)
    value = found[0].value
    if not isinstance(value, bytes):
        raise InvalidRequest("addresses of recordings are refused; send the bytes", param="file", node=node)
    return value


def decode_audio(data: bytes, *, max_seconds: float, node: str) -> np.ndarray[Any, Any]:
    """Decode a recording to mono float32 samples in [-1, 1] at 16 kHz, shape (samples,).

    Raises `InvalidRequest` if the bytes are no recording, hold no sound, or last longer than `max_seconds`.
    """
    import av

    try:
        samples = _decode(data, max_seconds)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise InvalidRequest(
            f"this is no recording that can be read; send {FORMATS}", param="file", node=node
        ) from error
    if samples is None:
        raise InvalidRequest(f"the recording lasts longer than {max_seconds:g} s", param="file", node=node)
    if samples.size == 0:
        raise InvalidRequest("the recording holds no sound", param="file", node=node)
    return samples


def _decode(data: bytes, max_seconds: float) -> np.ndarray[Any, Any] | None:
    import av
    import numpy as np

    blocks: list[np.ndarray[Any, Any]] = []
    total = 0
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
    with av.open(BytesIO(data), mode="r", metadata_errors="ignore", container_options=options) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [*container.streams.audio[:1]] and container.decode(audio=0)
        if not frames:
            raise ValueError("no audio stream")
        for frame in _frames(frames):
            for piece in resampler.resample(frame):
                block = piece.to_ndarray().reshape(-1)
                blocks.append(block)
                total += block.size
                if total > max_seconds * RATE:
                    return None
    joined = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int16)
    return joined.astype(np.float32) / 32768.0


def _frames(frames: Any) -> Any:
    """Yield decoded frames and then None, which flushes the resampler; a damaged packet is skipped."""
    import av

    while True:
        try:
            frame = next(frames)
        except StopIteration:
            break
        except av.InvalidDataError:
            continue
        frame.pts = None
        yield frame
    yield None
