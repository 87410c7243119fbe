"""What a node reads that writes the final answer from the outcomes of other tasks, and whom it cites."""

from __future__ import annotations

import json
import re

from graph.language import NAMES, language_of
from graph.scope import Scope, plain
from graph.task import Task

MAX_OUTPUT = 8000
"""Characters of one outcome that are shown; what is longer is cut in the middle."""
_CITATION = re.compile(r"\[([A-Za-z0-9_-]{1,64})\]")

_RULES = """You answer the request below from the results of tasks, and from nothing else.
- After each fact put the id of the task that it comes from in square brackets, like [{example}].
- Say plainly what is missing because a task failed. Invent nothing.
- Write in {language}."""


def composition_prompt(task: Task, scope: Scope) -> str:
    """Return rules, request and outcomes; the language is the request's."""
    request = scope.request.text
    language = NAMES.get(language_of(request) or "", "the language of the request")
    tasks = [id for id in task.composes if scope.states.get(id) != "skipped"]  # what failed says why
    results = "\n\n".join(_result(id, scope) for id in tasks) or "none"
    rules = _RULES.format(example=task.composes[0], language=language)
    return f"{rules}\n\nRequest:\n{request}\n\nResults:\n{results}\n\nAnswer in {language}:"


def citations(text: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks that an answer cites, in the order in which it does."""
    return tuple(dict.fromkeys(id for id in _CITATION.findall(text) if id in tasks))


def _result(id: str, scope: Scope) -> str:
    if id not in scope.replies:
        return f"[{id}] failed"
    found = plain(scope.replies[id].payload)
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    if len(text) > MAX_OUTPUT:
        text = f"{text[: MAX_OUTPUT // 2]}\n…\n{text[-MAX_OUTPUT // 2 :]}"
    return f"[{id}] {text}"
