"""Token-by-token generation with a transformers model: streaming, stop strings, limits, cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.nodes.workers import Emit
from graph.errors import ContextTooLong
from graph.types import Delta, FinishReason, Usage


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: Sequence[str] = ()

    def options(self, max_new_tokens: int) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        found: dict[str, Any] = {"max_new_tokens": max_new_tokens, "repetition_penalty": self.repetition_penalty}
        if self.temperature > 0:
            return found | {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return found | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@dataclass(slots=True)
class StopCutter:
    """Passes text on up to the first stop string; holds back what may be the beginning of one."""

    stops: Sequence[str]
    stopped: bool = False
    _held: str = field(default="", repr=False)

    def feed(self, text: str) -> str:
        """Take new text; return what may be shown."""
        if self.stopped:
            return ""
        text = self._held + text
        cut = min((at for at in (text.find(stop) for stop in self.stops) if at >= 0), default=-1)
        if cut >= 0:
            self.stopped, self._held = True, ""
            return text[:cut]
        keep = max(
            (size for stop in self.stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what is still held back, at the end."""
        held, self._held = self._held, ""
        return held


class _Streamer:
    """What `generate` hands its tokens to: decodes them, emits the text, and counts.

    Text is emitted as soon as it is whole: a token may end in the middle of a character.
    """

    def __init__(self, tokenizer: Any, emit: Emit[Delta], stops: Sequence[str], *, skip_prompt: bool) -> None:
        self.tokenizer = tokenizer
        self.emit = emit
        self.cutter = StopCutter(stops)
        self.tokens: list[int] = []
        self._skip = skip_prompt
        self._start = 0
        self._shown = ""

    def put(self, value: Any) -> None:
        """Take the prompt's tokens once, where the model repeats them, and then one token at a time."""
        if self._skip:
            self._skip = False
            return
        self.tokens += value.reshape(-1).tolist()
        text = self._decoded()
        if not text.endswith("�"):
            self._show(text)

    def end(self) -> None:
        """Show what is left."""
        self._show(self._decoded())
        if rest := self.cutter.rest():
            self.emit(Delta(rest))

    def _decoded(self) -> str:
        text: str = self.tokenizer.decode(self.tokens[self._start :], skip_special_tokens=True)
        return text

    def _show(self, text: str) -> None:
        if piece := self.cutter.feed(text[len(self._shown) :]):
            self.emit(Delta(piece))
        self._shown = text
        if text.endswith("\n"):  # a fresh start at a line's end keeps decoding linear in the answer's length
            self._start, self._shown = len(self.tokens), ""


def generate(
    model: Any, tokenizer: Any, inputs: Any, sampling: Sampling, emit: Emit[Delta], *, window: int, node: str
) -> None:
    """Generate an answer to tokenised `inputs` and emit it; the last delta has usage and finish reason.

    `window` bounds prompt and answer together, or each of them for an encoder-decoder model. Raises
    `ContextTooLong` if the prompt leaves no room.
    """
    import torch
    from transformers import StoppingCriteriaList

    causal = not model.config.is_encoder_decoder
    prompt = int(inputs["input_ids"].shape[-1]) if "input_ids" in inputs else 0
    room = window - prompt if causal else window
    if room < 1 or prompt > window:
        message = f"the request takes {prompt} tokens; node {node!r} has a context of {window}"
        raise ContextTooLong(message, param="messages", node=node)
    streamer = _Streamer(tokenizer, emit, sampling.stop, skip_prompt=True)
    limit = min(sampling.max_tokens, room)

    def done(input_ids: Any, scores: Any, **_: Any) -> Any:
        stop = emit.closed or streamer.cutter.stopped
        return torch.full((input_ids.shape[0],), stop, device=input_ids.device, dtype=torch.bool)

    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    with torch.inference_mode():
        model.generate(
            **inputs.to(model.device),
            **sampling.options(limit),
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([done]),
        )
    usage = Usage(prompt, len(streamer.tokens))
    emit(Delta(usage=usage, finish_reason=_finish(model, streamer, limit)))


def _finish(model: Any, streamer: _Streamer, limit: int) -> FinishReason:
    ends = model.generation_config.eos_token_id
    ended = bool(streamer.tokens) and streamer.tokens[-1] in (ends if isinstance(ends, list) else [ends])
    return "stop" if ended or streamer.cutter.stopped or len(streamer.tokens) < limit else "length"
