"""What a caller wants of a run beside its plan: a budget, planning anew, and who writes the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graph.budget import Budget
from graph.plan import Plan
from graph.task import Task
from graph.template import Template
from graph.types import Json, NodeName

ANSWER = "answer"
"""Id of the task that writes the answer, if no other has it."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Wishes that hold for a given plan as for one that is made."""

    budget: Budget | None = None
    replan: int | None = None
    """How often the rest may be planned anew; None leaves it to the plan."""
    writer: NodeName | None = None
    """A chat node that writes the answer from all outcomes, citing them."""
    template: Template | None = None

    def apply(self, plan: Plan) -> Plan:
        """Return the plan as it is to be run; raise `InvalidPlan` if a template does not fit it."""
        budget = self.budget.within(plan.budget) if self.budget else plan.budget
        times = plan.replan if self.replan is None else self.replan
        plan = replace(plan, budget=budget, replan=times, template=self.template or plan.template)
        return plan if self.writer is None else written_by(plan, self.writer)

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that `from_json` reads back."""
        return {
            "budget": self.budget.to_json() if self.budget else None,
            "replan": self.replan,
            "writer": self.writer,
            "template": self.template.to_json() if self.template else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> RunOptions:
        """Read what `to_json` wrote."""
        budget = Budget.from_json(data["budget"]) if data["budget"] else None
        return cls(budget, data["replan"], data["writer"], Template.read(data["template"])[0])


def written_by(plan: Plan, node: NodeName) -> Plan:
    """Return the plan with one more task, which writes the answer from what the others gave."""
    ids = {task.id for task in plan.tasks}
    id = (
        ANSWER
        if ANSWER not in ids
        else next(f"{ANSWER}{n}" for n in range(2, len(ids) + 3) if f"{ANSWER}{n}" not in ids)
    )
    writer = Task(id, node, composes=tuple(task.id for task in plan.tasks))
    return replace(plan, tasks=(*plan.tasks, writer), output=id, answer=(id,))
