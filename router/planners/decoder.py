"""An autoregressive decoder over node tokens: what a plan is written with, one node after the other. numpy only.

A gated recurrent cell (Cho et al. 2014) reads the node before and what attention takes from the request's tokens; nodes
are both its input and its output vocabulary. Beam search follows only the links of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.types import Array

WIDTH = 8
MAX_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sequence of nodes, by index, and its log-probability."""

    nodes: tuple[int, ...]
    logp: float


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """Weights, as torch names them, and the rules that every plan keeps."""

    arrays: Mapping[str, Array]
    allowed: Array | None
    """(nodes, nodes) 1 where the latter may follow the former; None where any may."""
    lengths: tuple[int, int]
    """Least and most nodes of a plan."""

    @property
    def size(self) -> int:
        """How many nodes there are; the token after them ends a plan."""
        return len(self.arrays["nodes"]) - 1

    def classify(self, tokens: Array) -> Array:
        """Return (nodes,) the logarithm of each one's odds to be in the plan."""
        pooled = _norm(self._linear("classify", tokens.mean(axis=0)))
        return np.asarray(pooled @ self.arrays["nodes"][: self.size].T * self._scale() + self.arrays["classify_bias"])

    def search(self, tokens: Array, width: int = WIDTH) -> list[Candidate]:
        """Return the likeliest plans for a request's token vectors (tokens, width), best first."""
        keys = self._linear("keys", tokens)
        state = np.tanh(self._linear("begin", tokens.mean(axis=0)))[None, :]
        beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        done: list[Candidate] = []
        for length in range(self.lengths[1] + 1):
            before = np.array([nodes[-1] if nodes else self.size for nodes, _ in beams])
            state, logp = self._step(before, state, keys, tokens)
            logp = self._masked(logp, before, length) + np.array([[score] for _, score in beams], dtype=np.float32)
            found: list[tuple[tuple[int, ...], float]] = []
            rows: list[int] = []
            for flat in np.argsort(logp, axis=None)[::-1][: 2 * width]:
                row, node = divmod(int(flat), logp.shape[1])
                score = float(logp[row, node])
                if not np.isfinite(score):
                    break
                if node == self.size:
                    done.append(Candidate(beams[row][0], score))
                elif len(found) < width:
                    found.append(((*beams[row][0], node), score))
                    rows.append(row)
            done = sorted(done, key=lambda item: -item.logp)[:width]
            if not found or (len(done) == width and found[0][1] < done[-1].logp):
                break
            beams, state = found, state[rows]
        return done

    def _step(self, before: Array, state: Array, keys: Array, tokens: Array) -> tuple[Array, Array]:
        a = self.arrays
        attention = _softmax(self._linear("query", state) @ keys.T / np.sqrt(keys.shape[1]))
        taken = attention @ tokens
        inputs = np.concatenate([a["nodes"][before], taken], axis=1)
        one = inputs @ a["cell.weight_ih"].T + a["cell.bias_ih"]
        two = state @ a["cell.weight_hh"].T + a["cell.bias_hh"]
        (r1, z1, n1), (r2, z2, n2) = np.split(one, 3, axis=1), np.split(two, 3, axis=1)
        reset, update = _sigmoid(r1 + r2), _sigmoid(z1 + z2)
        state = (1 - update) * np.tanh(n1 + reset * n2) + update * state
        attention = _softmax(self._linear("query", state) @ keys.T / np.sqrt(keys.shape[1]))
        out = _norm(self._linear("out", np.concatenate([state, attention @ tokens], axis=1)))
        logits = out @ a["nodes"].T * self._scale() + a["bias"]
        return state, np.asarray(logits - _logsum(logits), dtype=np.float32)

    def _masked(self, logp: Array, before: Array, length: int) -> Array:
        low, high = self.lengths
        if length < low:
            logp[:, self.size] = -np.inf
        if length >= high:
            logp[:, : self.size] = -np.inf
        if length and self.allowed is not None:
            logp[:, : self.size][self.allowed[before] == 0] = -np.inf
        return logp

    def _linear(self, name: str, values: Array) -> Array:
        return np.asarray(values @ self.arrays[f"{name}.weight"].T + self.arrays[f"{name}.bias"])

    def _scale(self) -> float:
        return float(np.exp(self.arrays["scale"][0]))


def _norm(values: Array) -> Array:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6))


def _softmax(values: Array) -> Array:
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _logsum(values: Array) -> Array:
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(top + np.log(np.exp(values - top).sum(axis=-1, keepdims=True)))


def _sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))
