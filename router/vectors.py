"""Types of arrays: `Array` of float32 where it crosses an interface, `AnyArray` inside numerical code."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from router.types import Array

AnyArray: TypeAlias = npt.NDArray[Any]


def unit(vectors: AnyArray) -> Array:
    """Return the rows scaled to length 1; a zero row stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), dtype=np.float32)


__all__ = ["AnyArray", "Array", "unit"]
