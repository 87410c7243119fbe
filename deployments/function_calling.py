"""`tools` of a chat request that no node takes: the planner chooses among the caller's own functions.

The caller makes the calls and comes back with their results. A request that no function fits is answered as if it had
brought none.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import orjson

from deployments.nodes.tool_calls import forced_functions, functions_of
from graph.errors import InvalidRequest
from graph.types import Call, Delta, Message, Usage
from router.function_calls import Done, FunctionPlanner, Step
from router.training.tool_forms import tool_of
from router.types import Encoder

PARAMS: Final = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
NAME: Final = "plan"
MAX_CHARACTERS: Final = 20_000
"""Of a request that functions are chosen for: every value in it may be an argument of each."""
KEPT: Final = 64
"""Sets of functions whose encoded descriptions are kept: a conversation brings the same ones in every turn."""


class FunctionCaller:
    """Answers requests that bring functions."""

    def __init__(self, encoder: Encoder | None) -> None:
        self._encoder = encoder
        self._planners: OrderedDict[str, FunctionPlanner] = OrderedDict()

    async def answer(self, call: Call) -> AsyncIterator[Delta] | None:
        """Return calls to make, a question for what is missing, or the results; None where no function fits.

        Raises `InvalidRequest` for functions that are not in OpenAI's form, for a choice of one that is not there, and
        for a request that is too long to choose by.
        """
        functions = functions_of(call.params, node=NAME)
        choice = call.params.get("tool_choice")
        forced = forced_functions(functions, choice, node=NAME)
        if choice == "none" or not functions:
            return None
        if len(call.text) > MAX_CHARACTERS:
            message = (
                f"is {len(call.text)} characters long; functions are chosen for requests of {MAX_CHARACTERS} at most"
            )
            raise InvalidRequest(f"{message}: name a node that takes tools", param="messages", node=NAME)
        done = made_calls(call.messages)
        step = await asyncio.to_thread(self._step, forced or functions, call.text, done, bool(forced))
        if step.calls:
            single = call.params.get("parallel_tool_calls") is False
            return _called(step.calls[:1] if single else step.calls)
        if step.missing:
            return _said("\n".join(step.missing))
        return _said(told(done)) if done else None

    def _step(self, functions: Sequence[Mapping[str, Any]], request: str, done: Sequence[Done], required: bool) -> Step:
        return self._planner(functions).step(request, done, required=required and not done)

    def _planner(self, functions: Sequence[Mapping[str, Any]]) -> FunctionPlanner:
        key = json.dumps(functions, sort_keys=True)
        planner = self._planners.pop(key, None)
        if planner is None:
            tools = [tool_of(item, f"tools.{index}.function") for index, item in enumerate(functions)]
            planner = FunctionPlanner(tools, self._encoder)
        self._planners[key] = planner
        while len(self._planners) > KEPT:
            self._planners.popitem(last=False)
        return planner


def made_calls(messages: Sequence[Message]) -> list[Done]:
    """Return the calls that were made for the last request of the user, each with its result."""
    start = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1)
    asked: dict[str, tuple[str, Any]] = {}
    found = []
    for message in messages[start + 1 :]:
        for item in message.extra.get("tool_calls") or ():
            function = item.get("function") if isinstance(item, Mapping) else None
            if isinstance(function, Mapping):
                arguments = _read(str(function.get("arguments") or "{}"))
                asked[str(item.get("id"))] = (
                    str(function.get("name")),
                    arguments if isinstance(arguments, dict) else {},
                )
        if message.role == "tool" and str(message.extra.get("tool_call_id")) in asked:
            name, arguments = asked[str(message.extra["tool_call_id"])]
            found.append(Done(name, arguments, _read(message.text)))
    return found


def without_functions(call: Call) -> Call:
    """Return the call as a node can take it that knows no functions: what was called is told in words."""
    params = {name: value for name, value in call.params.items() if name not in PARAMS}
    messages = []
    for message in call.messages:
        if message.role == "tool":
            messages.append(Message("assistant", message.text))
        elif not message.extra.get("tool_calls"):
            messages.append(message)
        elif message.text:
            messages.append(Message(message.role, message.content))
    return replace(call, messages=tuple(messages), params=params)


def told(done: Sequence[Done]) -> str:
    """Return results in words: one as it is, several by the function that gave each."""
    if len(done) == 1:
        return _words(done[0].result)
    return "\n".join(f"{item.name}: {_words(item.result)}" for item in done)


def _words(result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, dict) and not any(isinstance(value, dict | list) for value in result.values()):
        return ", ".join(f"{name}: {value}" for name, value in result.items())
    return json.dumps(result, ensure_ascii=False)


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def nothing_to_call() -> AsyncIterator[Delta]:
    """Say that neither a function nor a node fits the request."""
    return _said("None of the functions fits this request, and neither does anything else here.")


async def _called(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> AsyncIterator[Delta]:
    for index, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        call = {"index": index, "id": f"call_{uuid4().hex[:24]}", "type": "function", "function": function}
        yield Delta(tool_calls=(call,), node=NAME, model=NAME)
    yield Delta(finish_reason="tool_calls", usage=Usage(), node=NAME, model=NAME)


async def _said(text: str) -> AsyncIterator[Delta]:
    yield Delta(text=text, node=NAME, model=NAME)
    yield Delta(finish_reason="stop", usage=Usage(), node=NAME, model=NAME)
