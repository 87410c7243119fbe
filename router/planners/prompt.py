"""What a planning model reads: the nodes in a few lines, the rules of a plan, the request, and its own mistakes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from graph.errors import Problem
from graph.spec import NodeSpec
from graph.types import Call, Message
from router.planners.media import attached

REQUEST_CHARACTERS = 12_000
"""Of a request that are shown; a longer one is passed on whole by `request.text`."""
CONVERSATION_CHARACTERS = 4000
"""Of what was said before the request: the end of it."""
DESCRIPTION_CHARACTERS = 240
OUTPUTS = 12
"""Fields of a node's answer that are shown."""

_RULES = """You plan work for specialists. Split the request into the fewest tasks that answer all of it and give each \
to the node that fits best. Answer with JSON only: {"tasks": [{"id": "t1", "node": NAME, "arguments": {...}}, ...]}.
Rules:
- ids are t1, t2, ... in the order of the tasks.
- A prompt says everything its node must know; use the caller's words.
- {"$ref": "t1"} is the whole output of task t1; put it into "context" of a task that needs it, or into an argument. \
{"$ref": "t1.order.id"} is one field of it.
- Tasks that do not need each other's output have no references, so that they run at the same time.
- Text experts cannot hear or see: give a recording or picture to a node that takes it, and refer to that task.
- {"$ref": "request.text"} is the whole request. Never invent a value that the request does not say."""


def planning_messages(call: Call, specs: Sequence[NodeSpec]) -> tuple[Message, ...]:
    """Return the conversation that asks for a plan."""
    nodes = "\n".join(_line(spec) for spec in specs)
    text = call.text if len(call.text) <= REQUEST_CHARACTERS else call.text[:REQUEST_CHARACTERS] + "\n[cut here]"
    refs = [json.dumps({"$ref": str(ref)}) for found in attached(call).values() for ref in found]
    attachments = f"Attachments: {', '.join(refs)}\n" if refs else "Attachments: none\n"
    return (
        Message("system", f"{_RULES}\n\nNodes:\n{nodes}"),
        Message("user", f"{_before(call)}{attachments}Request:\n{text}"),
    )


def repair_messages(asked: Sequence[Message], answer: str, problems: Sequence[Problem]) -> tuple[Message, ...]:
    """Return the conversation that asks once more, showing what was wrong."""
    wrong = "\n".join(f"- {problem.key + ': ' if problem.key else ''}{problem.message}" for problem in problems[:20])
    ask = f"This plan is not valid:\n{wrong}\nAnswer with the corrected JSON only."
    return (*asked, Message("assistant", answer[:REQUEST_CHARACTERS]), Message("user", ask))


def _before(call: Call) -> str:
    """Return what was said before the request, which may say what it means, or what an earlier plan found out."""
    asked = max((i for i, message in enumerate(call.messages) if message.role == "user"), default=0)
    said = "\n".join(f"{message.role}: {message.text}" for message in call.messages[:asked] if message.text)
    return f"Conversation so far:\n{said[-CONVERSATION_CHARACTERS:]}\n\n" if said else ""


def _line(spec: NodeSpec) -> str:
    arguments = ", ".join(
        f"{name}{'' if argument.required and argument.default is None else '?'}: {argument.type}"
        + (f" of {list(argument.enum)}" if argument.enum else "")
        for name, argument in spec.signature().items()
    )
    made = ", ".join(sorted(spec.produces))
    if spec.outputs:
        made += " {" + ", ".join(list(spec.outputs)[:OUTPUTS]) + "}"
    return f"- {spec.name}({arguments}) -> {made}: {' '.join(spec.description.split())[:DESCRIPTION_CHARACTERS]}"
