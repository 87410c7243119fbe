"""What a user asks, as the body of a native request: text, and attachments read from files."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

AUDIO_FORMATS = ("wav", "mp3", "m4a", "ogg", "flac", "webm")
IMAGE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
}

RequestText = Annotated[str, typer.Argument(metavar="TEXT", help="The request; - reads it from standard input.")]
Audio = Annotated[
    list[Path] | None,
    typer.Option("--audio", help=f"Attach a recording ({', '.join(AUDIO_FORMATS)}); may be repeated."),
]
Image = Annotated[
    list[Path] | None,
    typer.Option("--image", help=f"Attach an image ({', '.join(IMAGE_TYPES)}); may be repeated."),
]


def build_request(
    text: str, audio: Sequence[Path] | None = None, image: Sequence[Path] | None = None
) -> dict[str, Any]:
    """Return `{"input": text}`, or `{"messages": [...]}` with OpenAI's content parts when there are attachments."""
    if text == "-":
        text = sys.stdin.read().strip()
    parts = [_audio_part(path) for path in audio or ()] + [_image_part(path) for path in image or ()]
    if not text.strip() and not parts:
        raise typer.BadParameter("is empty; say what is asked", param_hint="TEXT")
    if not parts:
        return {"input": text}
    said = [{"type": "text", "text": text}] if text.strip() else []
    return {"messages": [{"role": "user", "content": said + parts}]}


def _audio_part(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in AUDIO_FORMATS:
        raise typer.BadParameter(f"{path} is none of {', '.join(AUDIO_FORMATS)}", param_hint="--audio")
    return {"type": "input_audio", "input_audio": {"data": _base64(path, "--audio"), "format": suffix}}


def _image_part(path: Path) -> dict[str, Any]:
    media_type = IMAGE_TYPES.get(path.suffix.lower().removeprefix("."))
    if media_type is None:
        raise typer.BadParameter(f"{path} is none of {', '.join(IMAGE_TYPES)}", param_hint="--image")
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{_base64(path, '--image')}"}}


def _base64(path: Path, option: str) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint=option) from error
