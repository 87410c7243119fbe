"""Makes one answer of the tasks that a plan shows, while they are still running.

The answer is the output of each shown task in the order of the plan. The first unfinished one streams as it comes;
those behind it wait for their turn. What failed is named at the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from graph.errors import ModelyardError
from graph.expressions.parser import Expression
from graph.language import language_of
from graph.plan import Plan
from graph.run import Outcome
from graph.scope import Scope
from graph.template import Template
from graph.types import Delta, Reply

Emit: TypeAlias = Callable[[str, bool], Awaitable[None]]
"""Takes text to add to the answer, or, with True, the text that replaces the answer so far."""

MISSING = {
    "en": "Missing from this answer:",
    "de": "In dieser Antwort fehlt:",
    "fr": "Il manque à cette réponse :",
    "es": "Falta en esta respuesta:",
    "it": "Manca in questa risposta:",
    "pt": "Falta nesta resposta:",
    "nl": "In dit antwoord ontbreekt:",
}


class Composer:
    """The answer of one run, as far as it is known."""

    def __init__(self, plan: Plan, emit: Emit | None = None, request: str = "") -> None:
        self._plan = plan
        self._emit = emit
        self._request = request
        self._shown = () if plan.template else plan.shown
        self._writers = frozenset(task.id for task in plan.tasks if task.composes) & frozenset(plan.shown)
        self._texts: dict[str, str] = dict.fromkeys(self._shown, "")
        self._done: dict[str, Outcome] = {}
        self._turn = 0
        self._written = ""

    async def delta(self, task: str, delta: Delta) -> None:
        """Take one step of a task's answer."""
        if task not in self._texts:
            return
        live = self._turn < len(self._shown) and self._shown[self._turn] == task
        if delta.reset:
            had, self._texts[task] = self._texts[task], ""
            if live and had:
                await self._replace()
        if not delta.text:
            return
        first = not self._texts[task]
        self._texts[task] += delta.text
        if live:
            await self._write((self._heading(task) if first else "") + delta.text)

    async def finished(self, outcome: Outcome) -> None:
        """Take the outcome of a task; sections whose turn it is now are written."""
        if outcome.task in self._texts:
            streamed = self._texts[outcome.task]
            if outcome.status == "ok" and outcome.reply and not streamed:
                self._texts[outcome.task] = shown_text(outcome.reply)
            self._done[outcome.task] = outcome
            live = self._turn < len(self._shown) and self._shown[self._turn] == outcome.task
            if live and not streamed and self._texts[outcome.task]:
                await self._write(self._heading(outcome.task) + self._texts[outcome.task])
        while self._turn < len(self._shown) and self._shown[self._turn] in self._done:
            self._turn += 1
            if self._turn < len(self._shown) and self._texts[self._shown[self._turn]]:
                task = self._shown[self._turn]
                await self._write(self._heading(task) + self._texts[task])

    async def close(self, outcomes: Sequence[Outcome], scope: Scope | None = None) -> str:
        """Name what is missing and return the whole answer."""
        if self._plan.template is not None and scope is not None:
            await self._fill(self._plan.template, scope)
        elif any(o.task in self._writers and o.status != "ok" for o in outcomes):
            await self._without_writer({outcome.task: outcome for outcome in outcomes})
        missing = [outcome for outcome in outcomes if not outcome.whole and not outcome.unneeded]
        if missing:
            lines = "\n".join(f"- {self._label(o.task)}: {(o.error or {}).get('message', o.status)}" for o in missing)
            title = MISSING.get(language_of(self._request) or "en", MISSING["en"])
            await self._write(("\n\n" if self._written else "") + f"{title}\n{lines}")
        return self._written

    async def _fill(self, template: Template, scope: Scope) -> None:
        """Put the template's text in the place of what was said so far."""

        def value(expression: Expression) -> str:
            try:
                return scope.text(expression)
            except ModelyardError:  # the task failed, which the end of the answer says
                return "…"

        had, self._written = self._written, template.fill(self._request, value)
        if self._emit:
            await self._emit(self._written, bool(had))

    async def _without_writer(self, outcomes: Mapping[str, Outcome]) -> None:
        """Show the outputs themselves when the task that should have written the answer from them failed."""
        ids = [id for task in self._plan.tasks if task.id in self._writers for id in task.composes]
        self._shown = (*self._shown, *(id for id in ids if id not in self._shown))
        for id in ids:
            reply = outcomes[id].reply
            if outcomes[id].status == "ok" and reply:
                self._texts[id] = shown_text(reply)
                await self._write(self._heading(id) + self._texts[id])

    async def _replace(self) -> None:
        sections = [self._heading(task) + self._texts[task] for task in self._shown[: self._turn] if self._texts[task]]
        self._written = "".join(sections)
        if self._emit:
            await self._emit(self._written, True)

    async def _write(self, text: str) -> None:
        self._written += text
        if self._emit:
            await self._emit(text, False)

    def _heading(self, task: str) -> str:
        if len(self._shown) == 1:
            return ""
        before = any(self._texts[earlier] for earlier in self._shown[: self._shown.index(task)])
        return ("\n\n" if before else "") + f"### {self._label(task)}\n\n"

    def _label(self, id: str) -> str:
        words = " ".join(self._about(id).split())
        node = self._plan.task(id).node
        return f"{node}: {words[:77] + '…' if len(words) > 78 else words}" if words else node

    def _about(self, id: str) -> str:
        """Say what a task was asked: its prompt, or its own values, or those of the one task that it needs."""
        task = self._plan.task(id)
        if isinstance(prompt := task.arguments.get("prompt"), str):
            return prompt
        said = {name: value for name, value in task.arguments.items() if type(value) in (str, int, float)}
        if said:
            return ", ".join(map(str, said.values()) if len(said) == 1 else (f"{k} {v}" for k, v in said.items()))
        return self._about(next(iter(task.needs))) if len(task.needs) == 1 else ""


def shown_text(reply: Reply) -> str:
    """Return an output as the answer shows it: the texts of a list one below the other, not as JSON."""
    value = reply.payload.value
    if isinstance(value, list) and value and all(item is None or isinstance(item, str) for item in value):
        return "\n\n".join(item for item in value if item)
    return reply.text
