"""The decoder of `router.planners.decoder` as a torch module, so that it can be trained together with the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np

from router.types import Array

HIDDEN = 256
START_SCALE = 12.0


def build(described: Array) -> Any:
    """Return the module for nodes whose descriptions have these unit vectors (nodes, width)."""
    import torch
    from torch import nn

    width = described.shape[1]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            ends = np.random.default_rng(0).standard_normal((1, width)).astype(np.float32) / width**0.5
            self.nodes = nn.Parameter(torch.from_numpy(np.concatenate([described, ends])))
            self.begin = nn.Linear(width, HIDDEN)
            self.query = nn.Linear(HIDDEN, width)
            self.keys = nn.Linear(width, width)
            self.cell = nn.GRUCell(2 * width, HIDDEN)
            self.out = nn.Linear(HIDDEN + width, width)
            self.bias = nn.Parameter(torch.zeros(len(described) + 1))
            self.classify = nn.Linear(width, width)
            self.classify_bias = nn.Parameter(torch.full((len(described),), -5.0))
            self.scale = nn.Parameter(torch.tensor([float(np.log(START_SCALE))]))
            self.drop = nn.Dropout(0.2)
            nn.init.eye_(self.classify.weight)
            nn.init.eye_(self.keys.weight)

        def unit(self, values: Any) -> Any:
            return nn.functional.normalize(values, dim=-1)

        def attend(self, state: Any, keys: Any, tokens: Any, mask: Any) -> Any:
            scores = torch.einsum("bw,btw->bt", self.query(state), keys) / keys.shape[-1] ** 0.5
            return torch.einsum("bt,btw->bw", scores.masked_fill(mask == 0, -1e4).softmax(-1), tokens)

        def forward(self, tokens: Any, mask: Any, targets: Any) -> tuple[Any, Any]:
            """Return logits (texts, steps, nodes + 1), the targets being the input, and (texts, nodes)."""
            weight = mask.unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
            tokens = self.drop(tokens)
            keys, state = self.keys(tokens), torch.tanh(self.begin(pooled))
            scale, table = self.scale.exp(), self.nodes
            before = torch.full((len(tokens),), len(table) - 1, dtype=torch.long)
            found = []
            for step in range(targets.shape[1]):
                taken = self.attend(state, keys, tokens, mask)
                state = self.cell(torch.cat([self.drop(table[before]), taken], -1), state)
                taken = self.attend(state, keys, tokens, mask)
                out = self.unit(self.out(self.drop(torch.cat([state, taken], -1))))
                found.append(out @ table.T * scale + self.bias)
                before = targets[:, step].clamp(min=0)
            classes = self.unit(self.classify(pooled)) @ table[:-1].T * scale + self.classify_bias
            return torch.stack(found, 1), classes

        def arrays(self) -> dict[str, Array]:
            return {name: value.detach().numpy().astype(np.float32) for name, value in self.state_dict().items()}

    return Net()
