"""Kind `speech`: a Whisper model in this process, through faster-whisper (CTranslate2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Literal

from pydantic import Field

from deployments.models import model_problem, resolve_model
from deployments.nodes.audio import POSITIONS_PER_SECOND, RATE, decode_audio, find_audio
from deployments.nodes.chat import max_tokens, number
from deployments.nodes.loaded import LoadedNode
from deployments.nodes.workers import Emit
from graph.errors import InvalidRequest, InvalidSpec, Problem, UnsupportedParameter
from graph.node import NodeEnvironment, NodeParams
from graph.spec import NodeSpec
from graph.types import Call, Delta, Modality, Operation, Usage, json_payload

_FORMATS = ("json", "text", "verbose_json")


class SpeechParams(NodeParams):
    """Settings of a Whisper model."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: Literal["default", "int8", "int8_float16", "int8_float32", "float16", "bfloat16", "float32"] = (
        "default"
    )
    threads: int = Field(0, ge=0, le=1024)
    """CPU threads of one transcription; 0 leaves it to the library."""
    workers: int = Field(1, ge=1, le=64)
    """Transcriptions at the same time."""
    beam_size: int = Field(5, ge=1, le=32)
    vad_filter: bool = False
    """Skip silence before transcribing."""
    max_duration_s: float = Field(1800.0, gt=0, le=86400)
    """Longest recording taken."""
    language: str | None = None
    """Language where the call names none; by default it is detected."""


class SpeechNode(LoadedNode[Any]):
    """Speech to text, streamed segment by segment."""

    Params = SpeechParams
    placement: ClassVar[Literal["gateway", "replica"]] = "replica"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "transcribe"})
    honours: ClassVar[frozenset[str]] = frozenset(
        {
            "temperature",
            "language",
            "prompt",
            "response_format",
            "timestamp_granularities",
            "max_tokens",
            "max_completion_tokens",
        }
    )

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self.params = SpeechParams.model_validate(spec.params)
        super().__init__(spec, workers=self.params.workers)

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a missing model, and a node that does not accept audio."""
        problem = model_problem(spec.model)
        found = [("model", problem)] if problem else []
        if Modality.AUDIO not in spec.accepts:
            found.append(("accepts", "must contain audio for kind speech"))
        return found

    def _load(self) -> Any:
        from faster_whisper import WhisperModel

        path = resolve_model(self.spec.model)
        params = self.params
        if not (path / "model.bin").is_file():
            raise self._unloadable(f"{path.name} is no CTranslate2 model: a folder with model.bin and tokenizer.json")
        try:
            return WhisperModel(
                str(path),
                device=params.device,
                compute_type=params.compute_type,
                cpu_threads=params.threads,
                num_workers=params.workers,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise self._unloadable(f"cannot be loaded: {error}") from error

    def _unloadable(self, message: str) -> InvalidSpec:
        return InvalidSpec([Problem("node", "model", message)])

    async def run(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Transcribe the call's one recording; text beside it is not read. The prompt's tokens are its seconds x 50.

        With `response_format: verbose_json` a last payload has language, duration and segments.
        Raises `InvalidRequest` naming `file` if the recording cannot be used.
        """
        model = self._ready()
        data = find_audio(call, node=self.spec.name)
        options, verbose, words = self._options(model, call)
        limit = max_tokens(self.spec, call.params, None)

        def work(emit: Emit[Delta]) -> None:
            samples = decode_audio(data, max_seconds=self.params.max_duration_s, node=self.spec.name)
            if not emit.closed:
                _transcribe(model, samples, options, emit, verbose=verbose, words=words, limit=limit)

        deltas = self._workers.stream(work)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    def _options(self, model: Any, call: Call) -> tuple[dict[str, Any], bool, bool]:
        params = call.params
        chosen = params.get("response_format") or "json"
        if chosen not in _FORMATS and chosen != {"type": "text"}:
            raise UnsupportedParameter(
                f"response_format must be one of {', '.join(_FORMATS)}; got {chosen!r}",
                param="response_format",
                node=self.spec.name,
            )
        words = "word" in (params.get("timestamp_granularities") or ())
        prompt = params.get("prompt")
        if prompt is not None and not isinstance(prompt, str):
            raise InvalidRequest("prompt must be a text", param="prompt", node=self.spec.name)
        options: dict[str, Any] = {
            "language": self._language(model, params.get("language")),
            "initial_prompt": prompt or None,
            "beam_size": self.params.beam_size,
            "vad_filter": self.params.vad_filter,
            "word_timestamps": words,
        }
        temperature = number(self.spec, params, "temperature", 0.0, 1.0)
        if temperature:
            options["temperature"] = temperature  # without one, Whisper starts at 0 and rises only when it fails
        return options, chosen == "verbose_json", words

    def _language(self, model: Any, asked: Any) -> str | None:
        language = asked or self.params.language
        if language is None:
            return None
        known = model.supported_languages
        if language not in known:
            listed = ", ".join(sorted(known))
            raise InvalidRequest(
                f"language {language!r} is not one of the model's: {listed}", param="language", node=self.spec.name
            )
        return str(language)


def _transcribe(
    model: Any,
    samples: Any,
    options: Mapping[str, Any],
    emit: Emit[Delta],
    *,
    verbose: bool,
    words: bool,
    limit: int | None,
) -> None:
    segments, info = model.transcribe(samples, **options)
    done: list[Any] = []
    tokens = 0
    cut = False
    for segment in segments:
        left = None if limit is None else limit - tokens
        cut = left is not None and len(segment.tokens) > left
        text = _first_tokens(model, segment, left) if cut else segment.text
        tokens += left if cut and left is not None else len(segment.tokens)
        text = text if done else text.lstrip()
        done.append(segment)
        if emit(Delta(text)):
            return
        if cut:
            break
    usage = Usage(round(len(samples) / RATE * POSITIONS_PER_SECOND), tokens)
    payload = json_payload(_verbose(done, info, words)) if verbose else None
    emit(Delta(payload=payload, usage=usage, finish_reason="length" if cut else "stop"))


def _first_tokens(model: Any, segment: Any, count: int | None) -> str:
    """Return the text of a segment's first tokens; those above the end-of-text token are time stamps."""
    end = model.hf_tokenizer.token_to_id("<|endoftext|>")
    return str(model.hf_tokenizer.decode([token for token in segment.tokens[:count] if token < end]))


def _verbose(segments: list[Any], info: Any, words: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "text": "".join(segment.text for segment in segments).strip(),
        "language": info.language,
        "duration": round(float(info.duration), 3),
        "segments": [
            {"id": index, "start": round(float(s.start), 3), "end": round(float(s.end), 3), "text": s.text.strip()}
            for index, s in enumerate(segments)
        ],
    }
    if words:
        found["words"] = [
            {"word": word.word.strip(), "start": round(float(word.start), 3), "end": round(float(word.end), 3)}
            for segment in segments
            for word in segment.words or ()
        ]
    return found
