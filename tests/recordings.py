"""Recordings for tests: tones made here, and sentences spoken by espeak-ng."""

from __future__ import annotations

import io
import math
import shutil
import struct
import subprocess
import tempfile
import wave
from pathlib import Path

SENTENCE = "Hello world. This is a test."


def tone(seconds: float = 1.0) -> bytes:
    """Return a sine wave as a wav file: 16-bit mono at 16 kHz."""
    samples = [int(8000 * math.sin(i / 8)) for i in range(int(16_000 * seconds))]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return buffer.getvalue()


def spoken(sentence: str = SENTENCE) -> bytes:
    """Return a spoken sentence as a wav file."""
    program = shutil.which("espeak-ng")
    assert program, "the tests make speech with espeak-ng; install it"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentence.wav"
        subprocess.run([program, "-s", "140", "-w", str(path), sentence], check=True)
        return path.read_bytes()


def encoded(wav: bytes, container: str, codec: str, rate: int = 48_000) -> bytes:
    """Return a wav file in another container and codec."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out, av.open(io.BytesIO(wav)) as source:
        stream = out.add_stream(codec, rate=rate)
        resampler = av.AudioResampler(format=stream.format or "fltp", layout="mono", rate=rate)
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return buffer.getvalue()
