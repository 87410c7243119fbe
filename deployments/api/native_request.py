"""What the native endpoints take: a text, or messages, and for runs also a plan."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.api.chat_request import ChatMessage, ChatRequest, Messages
from graph.plan import Plan
from graph.types import Call

MAX_MESSAGES = 1000


class NativeRequest(BaseModel):
    """`{"input": "text"}` or `{"messages": […]}`."""

    model_config = ConfigDict(extra="forbid")
    input: str | None = Field(None, min_length=1)
    messages: Messages | None = Field(None, max_length=MAX_MESSAGES)
    metadata: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> NativeRequest:
        if (self.input is None) == (self.messages is None) and not getattr(self, "plan", None):
            raise ValueError("give either 'input' (a text) or 'messages'")
        return self

    def to_call(self) -> Call:
        """Return the call."""
        if self.messages is None and self.input is None:
            return Call()
        messages = self.messages or [ChatMessage(role="user", content=self.input)]
        return ChatRequest(messages=messages).to_call()


class RunRequest(NativeRequest):
    """`NativeRequest`, and optionally the plan to run instead of making one."""

    plan: dict[str, Any] | None = None

    def to_plan(self) -> Plan | None:
        """Return the given plan, validated on its own."""
        return None if self.plan is None else Plan.from_json(self.plan)
