"""`CausalModel`: a small causal language model that new tokens can be added to, and whose hidden states can be read."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from router.progress_bars import without_bars
from router.types import Array

PROMPT = "Query: {text}\nTopic:"
MAX_TOKENS = 128
"""Longest prompt; of a longer one the beginning and the end are read, where requests say what they want."""
TAIL_TOKENS = 32
MAX_CHARACTERS = 4000
"""Of a longer text the beginning and the end are tokenized: tokenizing megabytes would take seconds."""
BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class CausalModel:
    """A transformers causal language model with its tokenizer. Reading it is thread-safe."""

    network: Any
    tokenizer: Any
    """The `transformers` tokenizer, saved with the model."""
    device: str = "cpu"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    def prompt(self, text: str) -> list[int]:
        """Return the tokens after which the model names the expert; at most `MAX_TOKENS`."""
        ids = self.encode(PROMPT.format(text=_shorten(text.strip())), whole=True)
        return ids if len(ids) <= MAX_TOKENS else ids[: MAX_TOKENS - TAIL_TOKENS] + ids[-TAIL_TOKENS:]

    def encode(self, text: str, *, whole: bool = False) -> list[int]:
        """Return the tokens of a text. Special tokens written out in it are read as plain text, never obeyed.

        `whole` adds what the tokenizer puts around a sequence, such as a token that begins it.
        """
        backend = self.tokenizer.backend_tokenizer
        with self._lock:  # a switch on the tokenizer that belongs to this call alone
            backend.encode_special_tokens = True
            try:
                return list(backend.encode(text, add_special_tokens=whole).ids)
            finally:
                backend.encode_special_tokens = False

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def holds(self, text: str) -> bool:
        """Say whether a prompt holds the whole text."""
        return len(text) <= MAX_CHARACTERS and len(self.encode(PROMPT.format(text=text.strip()))) < MAX_TOKENS

    def hidden(self, prompts: Sequence[Sequence[int]]) -> Array:
        """Return (prompts, dimensions): the last layer's output at each prompt's end, one forward pass a batch."""
        import torch

        found = np.zeros((len(prompts), self.width), dtype=np.float32)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            ids, ends = pad([prompts[row] for row in rows])
            with torch.inference_mode():
                states = self.network.base_model(ids.to(self.device), use_cache=False).last_hidden_state
            found[rows] = states[torch.arange(len(rows)), ends].float().cpu().numpy()
        return found

    @property
    def width(self) -> int:
        """Dimensions of a hidden state."""
        return int(self.network.get_input_embeddings().weight.shape[1])

    def rows(self, tokens: Sequence[int]) -> Array:
        """Return the output rows of tokens: a token's logit is its row times the hidden state."""
        weight = self.network.get_output_embeddings().weight
        return np.asarray(weight.detach()[list(tokens)].float().cpu().numpy(), dtype=np.float32)

    def mean_rows(self, texts: Iterable[str]) -> Array:
        """Return (texts, dimensions): the mean of the output rows of each text's tokens."""
        return np.stack([self.rows(self.encode(text)).mean(axis=0) for text in texts])

    def set_rows(self, tokens: Sequence[int], rows: Array) -> None:
        """Replace output rows; every other one stays as it is."""
        import torch

        weight = self.network.get_output_embeddings().weight
        with torch.no_grad():
            weight[list(tokens)] = torch.from_numpy(rows).to(weight)

    def add_tokens(self, descriptions: Mapping[str, str]) -> list[int]:
        """Add one token for each name, started from the mean of its description's embeddings; return their ids.

        Input and output embeddings are parted first, so that training an output row changes no input.
        """
        import torch
        from tokenizers import AddedToken

        _untie(self.network)
        wanted = [AddedToken(name, special=True, normalized=False) for name in descriptions]
        means = [self.encode(text) for text in descriptions.values()]
        self.tokenizer.add_tokens(wanted, special_tokens=True)
        tokens = [int(self.tokenizer.convert_tokens_to_ids(name)) for name in descriptions]
        size = max(len(self.tokenizer), self.network.get_input_embeddings().weight.shape[0])
        self.network.resize_token_embeddings(size, mean_resizing=False)
        with torch.no_grad():
            for table in (self.network.get_input_embeddings().weight, self.network.get_output_embeddings().weight):
                for token, ids in zip(tokens, means, strict=True):
                    table[token] = table[ids].mean(dim=0)
        return tokens

    def continue_greedily(self, ids: Sequence[int], limit: int) -> list[int] | None:
        """Return the likeliest tokens up to the end token; None if it does not come within `limit` tokens."""
        import torch

        found: list[int] = []
        given, cache = torch.tensor([list(ids)], device=self.device), None
        with torch.inference_mode():
            for _ in range(limit):
                step = self.network(given, past_key_values=cache, use_cache=True, logits_to_keep=1)
                token, cache = int(step.logits[0, -1].argmax()), step.past_key_values
                if token == self.end:
                    return found
                found.append(token)
                given = torch.tensor([[token]], device=self.device)
        return None

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in half precision, the configuration and the tokenizer. Converts in place."""
        import torch

        with without_bars():
            self.network.to(torch.float16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_causal_model(path: Path, *, device: str = "cpu", threads: int | None = None) -> CausalModel:
    """Load a transformers folder or a GGUF file in single precision.

    Raises `ValueError` if there is no such model, or it has no end token.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if threads is not None:
        torch.set_num_threads(threads)
    folder, gguf = _locate(path)
    where = {"gguf_file": gguf} if gguf else {}
    with without_bars():
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, **where)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **where)
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ValueError(f"{path}: the tokenizer must be a fast one with an end token")
    if gguf:  # the weights are plain now, and may be saved
        network.hf_quantizer = None
        del network.config.quantization_config
    network.requires_grad_(False)
    return CausalModel(network.eval().to(device), tokenizer, device)


def pad(sequences: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Return (sequences, longest) tokens and each one's last position.

    Padded on the right, where no token of a causal model looks, so no mask is needed.
    """
    import torch

    ids = torch.zeros((len(sequences), max(map(len, sequences))), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids, torch.tensor([len(sequence) - 1 for sequence in sequences])


def _locate(path: Path) -> tuple[Path, str | None]:
    if path.suffix == ".gguf" and path.is_file():
        return path.parent, path.name
    if (path / "config.json").is_file():
        return path, None
    raise ValueError(f"{path} is no causal language model: expected a *.gguf file or a folder with config.json")


def _untie(network: Any) -> None:
    import torch

    output, shared = network.get_output_embeddings(), network.get_input_embeddings().weight
    if output.weight is shared:
        output.weight = torch.nn.Parameter(shared.detach().clone(), requires_grad=False)
    network.config.tie_word_embeddings = False


def _shorten(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[: MAX_CHARACTERS * 3 // 4]}\n{text[-MAX_CHARACTERS // 4 :]}"
