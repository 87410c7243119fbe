from __future__ import annotations

from conftest_planners import graph

__all__ = ["graph"]
