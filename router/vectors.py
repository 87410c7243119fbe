"""`AnyArray`, for inside numerical code, and unit vectors. What crosses an interface is `router.types.Array`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from router.types import Array

AnyArray: TypeAlias = npt.NDArray[Any]


def unit(vectors: AnyArray) -> Array:
    """Return the rows scaled to length 1; a zero row stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), dtype=np.float32)
