"""Puts tasks together: chains that attachments pass first, contexts, arguments, and questions for what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graph.model_graph import ModelGraph
from graph.plan import REQUEST, Plan, Ref, Task, Value
from graph.types import Modality, NodeName
from router.planners.arguments import fill
from router.planners.media import MEDIA, Chain, chain_to, takes

LONG_PROMPT = 4000
"""Characters from which a prompt that is the whole request is a reference to it."""


class Assembly:
    """A plan in the making."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self.tasks: list[Task] = []
        self.missing: list[str] = []
        self._carried: dict[tuple[Ref, tuple[NodeName, ...]], Ref] = {}

    def add(self, node: NodeName, arguments: dict[str, Value]) -> Ref:
        """Add a task and return a reference to its output; a task that is there already serves both."""
        for known in self.tasks:
            if known.node == node and known.arguments == arguments:
                return Ref(known.id)
        task = Task(f"t{len(self.tasks) + 1}", node, arguments)
        self.tasks.append(task)
        return Ref(task.id)

    def ask(self, question: str) -> None:
        """Note what the request lacks."""
        if question not in self.missing:
            self.missing.append(question)

    def carry(self, source: Ref, modality: Modality, nodes: Sequence[NodeName]) -> Ref:
        """Send something through nodes, once however often it is asked for; return what comes out."""
        key = (source, tuple(nodes))
        if key not in self._carried:
            value = source
            for position, name in enumerate(nodes):
                kind = modality if position == 0 else self._made(nodes[position - 1], name)
                value = self.add(name, self._passing(name, value, kind))
            self._carried[key] = value
        return self._carried[key]

    def _passing(self, node: NodeName, value: Ref, kind: Modality) -> dict[str, Value]:
        signature = self.graph[node].signature()
        arguments: dict[str, Value] = {kind.value: value} if kind.value in signature else {}
        if "prompt" in signature:
            words = "Write down what is said." if kind is Modality.AUDIO else "Describe this in detail."
            arguments["prompt"] = words if arguments else value
        return arguments

    def _made(self, source: NodeName, target: NodeName) -> Modality:
        shared = self.graph[source].produces & self.graph[target].accepts
        return Modality.TEXT if Modality.TEXT in shared or not shared else min(shared)

    def media(
        self, node: NodeName, modality: Modality, refs: Sequence[Ref], preferred: Sequence[NodeName]
    ) -> tuple[list[Ref], list[Ref]] | None:
        """Bring attachments to a node: (those it takes itself, texts made of them); None if they cannot get there."""
        if self.graph[node].is_tool:
            ways: Chain | None = Chain() if modality.value in node_words(self.graph, node) else None
            ways = ways or chain_to(self.graph, modality, node, preferred)
        else:
            ways = chain_to(self.graph, modality, node, preferred)
        if ways is None:
            return None
        if not ways.nodes:
            return list(refs), []
        return [], [self.carry(ref, modality, ways.nodes) for ref in refs]

    def outputs(self, node: NodeName, refs: Sequence[Ref]) -> tuple[dict[Modality, Ref], list[Ref]]:
        """Part outputs of earlier tasks into (those that the node takes as media, those it reads as context)."""
        as_media: dict[Modality, Ref] = {}
        as_text: list[Ref] = []
        for ref in refs:
            made = self.graph[self.node_of(ref)].produces
            kinds = [kind for kind in MEDIA if kind in made and takes(self.graph[node], kind)]
            if kinds and not made & {Modality.TEXT, Modality.JSON} and not self.graph[node].is_tool:
                as_media[kinds[0]] = ref
            else:
                as_text.append(self._readable(ref, node))
        return as_media, as_text

    def _readable(self, ref: Ref, node: NodeName) -> Ref:
        """Return the output itself, or what nodes between make of it when it is a picture or a recording."""
        source = self.node_of(ref)
        made = self.graph[source].produces
        if made & {Modality.TEXT, Modality.JSON} or self.graph[node].is_tool:
            return ref
        path = self.graph.path(source, node) or ()
        between = [name for name in path[1:-1] if not self.graph[name].is_tool]
        return self.carry(ref, min(made), between) if between and len(between) == len(path) - 2 else ref

    def node_of(self, ref: Ref) -> NodeName:
        """Return the node whose task makes this output."""
        return next(task.node for task in self.tasks if task.id == ref.task)

    def model(
        self, node: NodeName, prompt: Value, context: Sequence[Value], media: dict[Modality, list[Ref]]
    ) -> list[Ref]:
        """Add the task of a model: one for each attachment when there are several of a kind."""
        signature = self.graph[node].signature()
        base: dict[str, Value] = {}
        if "prompt" in signature:
            base["prompt"] = prompt
            if context:
                base["context"] = list(context)
        several = max((len(refs) for refs in media.values()), default=0)
        if any(
            argument.required and name not in base and Modality(name) not in media
            for name, argument in signature.items()
        ):
            self.ask(f"{node} needs an attachment of the kind it works on.")
            return []
        return [
            self.add(node, base | {kind.value: refs[min(index, len(refs) - 1)] for kind, refs in media.items() if refs})
            for index in range(max(several, 1))
        ]

    def tool(self, node: NodeName, text: str, earlier: Sequence[Ref], attachments: Sequence[Ref]) -> list[Ref]:
        """Add the task of a tool, or ask for what it lacks."""
        filled = fill(self.graph[node], text, earlier, attachments)
        for question in filled.missing:
            self.ask(question)
        return [] if filled.missing else [self.add(node, filled.arguments)]

    def plan(self, planner: str, asked: Sequence[Ref] = ()) -> Plan:
        """Return the plan; its output is the last task that no other needs.

        The answer shows what was `asked` for, though another task reads it too, and every task that no other needs.
        """
        plan = Plan(tuple(self.tasks), self.tasks[-1].id, planner, tuple(self.missing))
        shown = {ref.task for ref in asked} | set(plan.sinks)
        answer = tuple(task.id for task in self.tasks if task.id in shown)
        return replace(plan, output=plan.sinks[-1], answer=answer)


def node_words(graph: ModelGraph, node: NodeName) -> str:
    """Return the argument names of a tool as one string, in which a modality may be named."""
    return " ".join(name.lower() for name, argument in graph[node].arguments.items() if argument.type == "object")


def prompt_of(text: str, whole: str) -> Value:
    """Return a prompt: the text, or a reference when it is the whole of a long request."""
    return Ref(REQUEST, ("text",)) if text == whole and len(text) > LONG_PROMPT else text
