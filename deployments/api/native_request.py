"""What the native endpoints take: a text, or messages, and for runs also a plan."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from deployments.api.chat_request import ChatMessage, ChatRequest, Messages
from deployments.api.plan_schema import PLAN
from graph.budget import Budget
from graph.errors import InvalidRequest
from graph.plan import MAX_REPLANS, Plan
from graph.plan_bounds import check_bounds
from graph.run_options import RunOptions
from graph.template import Template
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


class BudgetForm(BaseModel):
    """Bounds on a run; each may be left out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    calls: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    cost: float | None = Field(None, gt=0)
    deadline_s: float | None = Field(None, gt=0)


class ComposeForm(BaseModel):
    """`{"node": NAME}`: a chat node writes the answer. `{"template": TEXT}`: outputs are put into a text."""

    model_config = ConfigDict(extra="forbid")
    node: str | None = None
    template: str | dict[str, str] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> ComposeForm:
        if (self.node is None) == (self.template is None):
            raise ValueError("give either 'node' (a chat node) or 'template' (a text)")
        return self


class RunRequest(NativeRequest):
    """`NativeRequest`, and optionally the plan to run instead of making one."""

    plan: Annotated[dict[str, Any], WithJsonSchema(PLAN)] | None = None
    """The plan to run; without one the request is planned."""
    budget: BudgetForm | None = None
    """What the run may take; what is left is skipped when it is exceeded."""
    replan: int | None = Field(None, ge=0, le=MAX_REPLANS)
    """How often the rest may be planned anew after a task failed; finished tasks are kept."""
    compose: ComposeForm | None = None
    """Who writes the answer; by default it is the outputs of the plan's last tasks."""

    def to_options(self) -> RunOptions:
        """Return what is wanted beside the plan."""
        budget = Budget(**self.budget.model_dump()) if self.budget else None
        given = self.compose.template if self.compose else None
        check_bounds({"template": given})
        template, wrong = Template.read(given)
        if wrong:
            raise InvalidRequest(f"compose.template: {wrong[0].message}", param="compose.template")
        return RunOptions(budget, self.replan, self.compose.node if self.compose else None, template)

    def to_plan(self) -> Plan | None:
        """Return the given plan, validated on its own."""
        if self.plan is None:
            return None
        check_bounds(self.plan)
        return Plan.from_json(self.plan)
