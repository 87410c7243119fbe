"""Kind `embedding`: a sentence-transformers model in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar, Literal

from pydantic import Field

from deployments.models import model_problem, resolve_model
from deployments.nodes.loaded import LoadedNode
from deployments.nodes.workers import Emit
from graph.errors import ContextTooLong, InvalidRequest, InvalidSpec, Problem, UnsupportedParameter
from graph.node import NodeEnvironment, NodeParams
from graph.spec import NodeSpec
from graph.types import Call, Delta, Modality, Operation, Usage, json_payload

MAX_INPUTS = 2048


class EmbeddingParams(NodeParams):
    """Settings of an embedding model."""

    device: str | None = None
    """Torch device such as `cpu` or `cuda`; by default the best one there is."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Texts encoded at a time; also how soon a cancelled call stops."""
    normalize: bool = True
    """Scale vectors to length 1."""
    truncate: bool = False
    """Cut texts longer than the model reads, instead of refusing them."""
    prompt: str = ""
    """Put before every text, as some models want it."""


class EmbeddingNode(LoadedNode[Any]):
    """Texts to vectors: a JSON list with one list of numbers for each text, in order."""

    Params = EmbeddingParams
    placement: ClassVar[Literal["gateway", "replica"]] = "replica"
    operations: ClassVar[frozenset[Operation]] = frozenset({"embeddings"})
    honours: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self.params = EmbeddingParams.model_validate(spec.params)
        super().__init__(spec, workers=1)

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a missing model, and a node that does not say that it produces JSON."""
        problem = model_problem(spec.model)
        found = [("model", problem)] if problem else []
        if spec.produces != {Modality.JSON}:
            found.append(("produces", "must be [json] for kind embedding"))
        return found

    def _load(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        path = resolve_model(self.spec.model)
        try:
            return SentenceTransformer(
                str(path), device=self.params.device, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            message = f"sentence-transformers cannot load {path.name}: {error}"
            raise InvalidSpec([Problem("node", "model", message)]) from error

    async def run(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Embed `inputs["input"]` (a text or a JSON list of texts), or else the last user message.

        Raises `InvalidRequest` naming `input` for anything else, `ContextTooLong` for a text that the model cannot
        read whole.
        """
        model = self._ready()
        texts = self._texts(call)

        def work(emit: Emit[Delta]) -> None:
            self._embed(model, texts, call.params.get("dimensions"), emit)

        deltas = self._workers.stream(work)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    def _texts(self, call: Call) -> list[str]:
        if call.attachments:
            raise InvalidRequest(f"node {self.spec.name!r} embeds text only", param="input", node=self.spec.name)
        payload = call.inputs.get("input")
        value = payload.value if payload else call.text
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            message = "input must be a text or a list of texts, none of them empty"
            raise InvalidRequest(message, param="input", node=self.spec.name)
        if len(texts) > MAX_INPUTS:
            message = f"input has {len(texts)} texts; at most {MAX_INPUTS} are taken"
            raise InvalidRequest(message, param="input", node=self.spec.name)
        return [self.params.prompt + text for text in texts]

    def _embed(self, model: Any, texts: list[str], dimensions: Any, emit: Emit[Delta]) -> None:
        # Named so since sentence-transformers 5; the old name warns there.
        measure = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        size = measure()
        if dimensions not in (None, size):
            message = f"node {self.spec.name!r} gives vectors of {size} dimensions only"
            raise UnsupportedParameter(message, param="dimensions", node=self.spec.name)
        tokens = self._count(model, texts)
        vectors: list[list[float]] = []
        for start in range(0, len(texts), self.params.batch_size):
            if emit.closed:
                return
            batch = texts[start : start + self.params.batch_size]
            encoded = model.encode(batch, normalize_embeddings=self.params.normalize, show_progress_bar=False)
            vectors += encoded.tolist()
        emit(Delta(payload=json_payload(vectors), usage=Usage(tokens, 0), finish_reason="stop"))

    def _count(self, model: Any, texts: list[str]) -> int:
        """Count tokens as the model sees them, and refuse a text that it would cut."""
        limit = model.max_seq_length
        lengths = [len(ids) for ids in model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
        longest = max(lengths)
        if limit and longest > limit and not self.params.truncate:
            message = f"a text takes {longest} tokens; node {self.spec.name!r} reads {limit} (params.truncate cuts)"
            raise ContextTooLong(message, param="input", node=self.spec.name)
        return sum(min(length, limit or length) for length in lengths)
