"""Low-rank adaptation (Hu et al. 2021) of a causal model's upper layers; the frozen layers' outputs are cached."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from router.causal_model import pad

RANK = 16
ALPHA = 32.0


@dataclass(frozen=True, slots=True, eq=False)
class UpperLayers:
    """The last layers of a model with trainable low-rank changes; those below stay frozen.

    Where the architecture lets hidden states in at any layer (`splits`), the frozen layers run once a text and only
    the upper ones in each epoch. Where it does not, the whole model runs each time, and training is only slower.
    """

    base: Any
    layers: Sequence[Any]
    first: int
    """Index of the first layer that is trained."""
    splits: bool

    def below(self, sequences: Sequence[Sequence[int]]) -> list[Any]:
        """Return what `above` wants of each sequence: the frozen layers' output, or the tokens."""
        import torch

        if not self.splits:
            return [torch.tensor(sequence) for sequence in sequences]
        ids, ends = pad(sequences)
        with torch.inference_mode():
            states = _below(self.base, self.layers, self.first, ids.to(_device(self.base)))
        return [states[row, : end + 1].clone().cpu() for row, end in enumerate(ends.tolist())]

    def above(self, inputs: Sequence[Any]) -> Any:
        """Return (sequences, longest, dimensions), the last layer's output; gradients reach the changes."""
        import torch

        joined = torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True).to(_device(self.base))
        if not self.splits:
            return self.base(joined, use_cache=False).last_hidden_state
        with _only(self.base, self.layers[self.first :]):
            return self.base(inputs_embeds=joined, use_cache=False).last_hidden_state

    def parameters(self) -> list[Any]:
        """Return what is trained."""
        return [weight for module in self.layers for weight in module.parameters() if weight.requires_grad]

    def state(self) -> list[Any]:
        """Return a copy of what is trained."""
        return [weight.detach().clone() for weight in self.parameters()]

    def restore(self, state: Sequence[Any]) -> None:
        """Put a copy back."""
        import torch

        with torch.no_grad():
            for weight, saved in zip(self.parameters(), state, strict=True):
                weight.copy_(saved)

    def merge(self) -> None:
        """Add the changes to the weights they change: what is left is a plain model."""
        for parent, name, module in list(_linears(self.layers[self.first :])):
            if hasattr(module, "merged"):
                setattr(parent, name, module.merged())


def adapt(network: Any, trained: int) -> UpperLayers:
    """Give the last `trained` layers low-rank changes that begin at zero.

    Raises `ValueError` for a model whose layers cannot be told or hold no linear maps.
    """
    base = network.base_model
    layers = list(_stack(base))
    first = max(0, len(layers) - trained)
    upper = UpperLayers(base, layers, first, first > 0 and _splits(base, layers, first))
    found = list(_linears(layers[first:]))
    if not found:
        raise ValueError(f"{network.config.model_type} models have no torch.nn.Linear layers to adapt")
    for parent, name, linear in found:
        setattr(parent, name, _low_rank(linear))
    return upper


def _low_rank(linear: Any) -> Any:
    import torch

    class LowRank(torch.nn.Module):
        """A linear map and a low-rank change of it."""

        def __init__(self) -> None:
            super().__init__()
            self.plain = linear
            like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
            self.down = torch.nn.Parameter(torch.empty(RANK, linear.in_features, **like))
            self.up = torch.nn.Parameter(torch.zeros(linear.out_features, RANK, **like))
            torch.nn.init.kaiming_uniform_(self.down, a=5**0.5)

        def forward(self, x: Any) -> Any:
            return self.plain(x) + (x @ self.down.T) @ self.up.T * (ALPHA / RANK)

        def merged(self) -> Any:
            with torch.no_grad():
                self.plain.weight += self.up @ self.down * (ALPHA / RANK)
            return self.plain

    return LowRank()


def _linears(layers: Sequence[Any]) -> Iterator[tuple[Any, str, Any]]:
    """Yield (parent, name, module) of every linear map, or of what stands in its place."""
    import torch

    for layer in layers:
        for parent in list(layer.modules()):
            if hasattr(parent, "merged"):
                continue
            for name, module in list(parent.named_children()):
                if isinstance(module, torch.nn.Linear) or hasattr(module, "merged"):
                    yield parent, name, module


def _stack(base: Any) -> Any:
    import torch

    count = base.config.num_hidden_layers
    for module in base.children():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"{base.config.model_type}: no list of {count} layers was found in the model")


@contextlib.contextmanager
def _only(base: Any, layers: Sequence[Any]) -> Iterator[None]:
    """Let the model consist of some of its layers for a while."""
    import torch

    name = next(name for name, module in base.named_children() if isinstance(module, torch.nn.ModuleList))
    whole = getattr(base, name)
    setattr(base, name, torch.nn.ModuleList(layers))
    try:
        yield
    finally:
        setattr(base, name, whole)


def _below(base: Any, layers: Sequence[Any], first: int, ids: Any) -> Any:
    """Return the output of layer `first - 1`, before the norm that ends the model."""
    seen: list[Any] = []
    hook = layers[first - 1].register_forward_hook(
        lambda module, given, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        with _only(base, layers[:first]):
            base(ids, use_cache=False)
    finally:
        hook.remove()
    return seen[-1]


def _splits(base: Any, layers: Sequence[Any], first: int) -> bool:
    """Say whether running the layers in two halves gives what running them at once gives."""
    import torch

    ids = torch.arange(2, 10, device=_device(base))[None] % base.config.vocab_size
    with torch.inference_mode():
        whole = base(ids, use_cache=False).last_hidden_state
        try:
            states = _below(base, layers, first, ids)
            with _only(base, layers[first:]):
                halves = base(inputs_embeds=states, use_cache=False).last_hidden_state
        except (TypeError, ValueError, IndexError, AttributeError):  # an architecture that takes no hidden states
            return False
    return bool(torch.allclose(whole, halves, rtol=1e-3, atol=1e-3))


def _device(base: Any) -> Any:
    return next(base.parameters()).device
