"""What each task of kind `transformers` loads, and how it answers a call. All of it blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from deployments.nodes.audio import POSITIONS_PER_SECOND, RATE, decode_audio, find_audio
from deployments.nodes.chat import chat_messages, prompt_text, refuse_attachments
from deployments.nodes.generation import Sampling, generate
from deployments.nodes.transformers_params import TransformersParams
from deployments.nodes.workers import Emit
from graph.errors import ContextTooLong, InvalidRequest, InvalidSpec, Problem, UnsupportedParameter
from graph.spec import NodeSpec
from graph.types import Call, Delta, Modality, Usage, json_payload

Answer: TypeAlias = Callable[[Emit[Delta]], None]
DEFAULT_WINDOW = 2048
_UNHEARD = ("language", "prompt", "timestamp_granularities")
"""Fields of a transcription that the library's pipeline does not take for every model."""


class Task(Protocol):
    """One task with its model loaded."""

    def prepare(self, call: Call, sampling: Sampling) -> Answer:
        """Check a call and return the work that answers it; raise `InvalidRequest` before anything is computed."""


class TextGeneration:
    """`text-generation`: a decoder that continues a conversation, or plain text where it has no chat template."""

    def __init__(self, spec: NodeSpec, path: Path, settings: TransformersParams) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.spec = spec
        self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model = _on_device(AutoModelForCausalLM, path, settings)
        self.window = _window(spec, self.model, self.tokenizer)

    def prepare(self, call: Call, sampling: Sampling) -> Answer:
        """Render the chat and return the work."""
        messages = chat_messages(self.spec, call)
        inputs = self._encode(messages)
        return lambda emit: generate(
            self.model, self.tokenizer, inputs, sampling, emit, window=self.window, node=self.spec.name
        )

    def _encode(self, messages: list[dict[str, Any]]) -> Any:
        if self.tokenizer.chat_template is None:
            text = "\n\n".join(message["content"] or "" for message in messages)
            return self.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except TemplateError as error:  # how a template refuses a conversation, such as two user turns in a row
            raise InvalidRequest(
                f"the chat template refuses: {error}", param="messages", node=self.spec.name
            ) from error


class Text2Text:
    """`text2text-generation`: an encoder-decoder that turns one text into another."""

    def __init__(self, spec: NodeSpec, path: Path, settings: TransformersParams) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.spec = spec
        self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model = _on_device(AutoModelForSeq2SeqLM, path, settings)
        self.window = _window(spec, self.model, self.tokenizer)

    def prepare(self, call: Call, sampling: Sampling) -> Answer:
        """Encode the text and return the work."""
        refuse_attachments(self.spec, call, frozenset())
        text = prompt_text(self.spec, call)
        if self.spec.system_prompt:
            text = f"{self.spec.system_prompt}\n\n{text}"
        inputs = self.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        return lambda emit: generate(
            self.model, self.tokenizer, inputs, sampling, emit, window=self.window, node=self.spec.name
        )


class Classification:
    """`text-classification` and `token-classification`: labels of a text, or of its parts, as JSON."""

    def __init__(self, spec: NodeSpec, path: Path, settings: TransformersParams, task: str) -> None:
        from transformers import pipeline

        self.spec = spec
        options: dict[str, Any] = {"top_k": settings.top_k}
        if task == "token-classification":
            options = {"aggregation_strategy": settings.aggregation_strategy}
        self.pipeline = pipeline(task, model=str(path), device=settings.device or "cpu", **options)

    def prepare(self, call: Call, sampling: Sampling) -> Answer:
        """Check that the text fits and return the work."""
        refuse_attachments(self.spec, call, frozenset())
        text = prompt_text(self.spec, call)
        tokens = len(self.pipeline.tokenizer(text, verbose=False)["input_ids"])
        window = _window(self.spec, self.pipeline.model, self.pipeline.tokenizer)
        if tokens > window:
            message = f"the text takes {tokens} tokens; node {self.spec.name!r} reads {window}"
            raise ContextTooLong(message, param="messages", node=self.spec.name)

        def answer(emit: Emit[Delta]) -> None:
            (found,) = self.pipeline([text])
            labels = [_plain(item) for item in ([found] if isinstance(found, Mapping) else found)]
            emit(Delta(payload=json_payload(labels), usage=Usage(tokens, 0), finish_reason="stop"))

        return answer


class SpeechRecognition:
    """`automatic-speech-recognition`: the words of a recording."""

    def __init__(self, spec: NodeSpec, path: Path, settings: TransformersParams) -> None:
        import av  # noqa: F401  (missing it must show when the node loads, not at the first recording)
        from transformers import pipeline

        self.spec = spec
        self.max_seconds = settings.max_duration_s
        device = settings.device or "cpu"
        self.pipeline = pipeline("automatic-speech-recognition", model=str(path), device=device)

    def prepare(self, call: Call, sampling: Sampling) -> Answer:
        """Find the recording and return the work, which decodes it first."""
        data = find_audio(call, node=self.spec.name)
        extra = {name for name in _UNHEARD if call.params.get(name)}
        if call.params.get("response_format") not in (None, "json", "text"):
            extra.add("response_format")
        if extra:
            name = min(extra)
            message = f"{name} is not supported by node {self.spec.name!r}; kind speech takes it"
            raise UnsupportedParameter(message, param=name, node=self.spec.name)

        def answer(emit: Emit[Delta]) -> None:
            samples = decode_audio(data, max_seconds=self.max_seconds, node=self.spec.name)
            if emit.closed:
                return
            text = self.pipeline({"raw": samples, "sampling_rate": RATE})["text"].strip()
            words = len(self.pipeline.tokenizer(text)["input_ids"]) if text else 0
            usage = Usage(round(len(samples) / RATE * POSITIONS_PER_SECOND), words, estimated=True)
            emit(Delta(text, usage=usage, finish_reason="stop"))

        return answer


class ImageToText:
    """`image-to-text`: a caption of an image, or an answer about it."""

    def __init__(self, spec: NodeSpec, path: Path, settings: TransformersParams) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        self.spec = spec
        self.images = import_module("PIL.Image")
        self.processor = AutoImageProcessor.from_pretrained(path, local_files_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model = _on_device(AutoModelForImageTextToText, path, settings)

    def prepare(self, call: Call, sampling: Sampling) -> Answer:
        """Decode the image and return the work."""
        found = [part for part in call.attachments if part.modality is Modality.IMAGE]
        if len(found) != 1 or not isinstance(found[0].value, bytes):
            message = f"node {self.spec.name!r} takes exactly one image, sent as bytes"
            raise InvalidRequest(message, param="messages", node=self.spec.name)
        inputs = self.processor(images=self._open(found[0].value), return_tensors="pt")
        window = self.spec.context_window or DEFAULT_WINDOW
        return lambda emit: generate(
            self.model, self.tokenizer, inputs, sampling, emit, window=window, node=self.spec.name
        )

    def _open(self, data: bytes) -> Any:
        try:
            return self.images.open(BytesIO(data)).convert("RGB")
        except (self.images.DecompressionBombError, OSError, ValueError) as error:
            message = "this is no image that can be read"
            raise InvalidRequest(message, param="messages", node=self.spec.name) from error


def load_task(task: str, spec: NodeSpec, path: Path, settings: TransformersParams) -> Task:
    """Load the model of a task. Raises `InvalidSpec` saying what is missing or wrong."""
    loaders: Mapping[str, Callable[[], Task]] = {
        "text-generation": lambda: TextGeneration(spec, path, settings),
        "text2text-generation": lambda: Text2Text(spec, path, settings),
        "text-classification": lambda: Classification(spec, path, settings, task),
        "token-classification": lambda: Classification(spec, path, settings, task),
        "automatic-speech-recognition": lambda: SpeechRecognition(spec, path, settings),
        "image-to-text": lambda: ImageToText(spec, path, settings),
    }
    try:
        return loaders[task]()
    except ImportError as error:
        missing = f" ({error.name} is not installed)" if error.name else f": {str(error).strip().splitlines()[0]}"
        raise InvalidSpec(
            [Problem("node", "params.task", f"task {task!r} needs a library that is missing{missing}")]
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"transformers cannot load {path.name} for task {task!r}: {reason}"
        raise InvalidSpec([Problem("node", "model", message)]) from error


def _on_device(auto: Any, path: Path, settings: TransformersParams) -> Any:
    model = auto.from_pretrained(path, local_files_only=True, dtype=settings.dtype)
    return model.to(settings.device or "cpu").eval()


def _window(spec: NodeSpec, model: Any, tokenizer: Any) -> int:
    """Return how many tokens fit: what the spec says, else the model's positions, else what the tokenizer knows."""
    if spec.context_window:
        return spec.context_window
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(value := getattr(model.config, name, None), int) and value > 0:
            return value
    known = tokenizer.model_max_length
    return int(known) if known < 10**9 else DEFAULT_WINDOW


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Turn numpy's numbers into Python's."""
    return {key: value.item() if hasattr(value, "item") else value for key, value in item.items()}
