"""What goes wrong between a client and a service."""

from __future__ import annotations

from collections.abc import Mapping

from graph.errors import ModelyardError
from graph.types import Json


class ServiceError(ModelyardError):
    """What the service refused, or that it could not be reached."""

    def __init__(
        self, message: str, *, status: int | None = None, code: str = "error", param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        """HTTP status; None when no answer came."""
        self.code = code
        self.gate: Mapping[str, Json] | None = None
        """The registration gate's report, if it was the gate that refused."""

    @property
    def unreachable(self) -> bool:
        """Whether no answer came at all."""
        return self.status is None
