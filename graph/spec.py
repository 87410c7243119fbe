"""`NodeSpec`: the declaration of one node, as a user writes it in YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from graph.pattern import check_pattern
from graph.types import Modality

RESERVED = frozenset({"auto", "plan", "request", "none"})
"""Names that mean something else where a node's name could stand."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Example = Annotated[str, StringConstraints(min_length=1, max_length=8000)]
MAX_PATH = 200
FieldPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=MAX_PATH)]
SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""How a secret is written: the name of an environment variable, resolved only where it is used."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Limits(_Model):
    """Bounds on one call to the node, in seconds and counts."""

    connect_s: float = Field(2.0, gt=0, le=600)
    first_token_s: float = Field(60.0, gt=0, le=3600)
    idle_s: float = Field(30.0, gt=0, le=3600)
    """Longest silence between two pieces of an answer."""
    total_s: float = Field(300.0, gt=0, le=86400)
    hedge_s: float | None = Field(None, gt=0, le=600)
    """Seconds after which a node that has not begun to answer is asked a second time, for a tenth of its calls at most;
    the answer that begins first counts. Without it no call is hedged."""
    attempts: int = Field(3, ge=1, le=10)
    """Attempts at this node, the first one and hedges included."""
    concurrency: int = Field(32, ge=1, le=10_000)
    """Calls that one replica works on at a time."""
    queue: int = Field(128, ge=0, le=100_000)
    """Calls that may wait for a place; one more is refused at once."""


class Cost(_Model):
    """Price in cost units (commonly US dollars) per million tokens."""

    input_per_million: float = Field(0.0, ge=0)
    output_per_million: float = Field(0.0, ge=0)


class Scale(_Model):
    """Replicas of a node that has a process of its own, and what each one takes."""

    min: int = Field(1, ge=1, le=1000)
    max: int = Field(1, ge=1, le=1000)
    cpus: float = Field(0.1, ge=0, le=10_000)
    gpus: float = Field(0.0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class Edges(_Model):
    """Declared edges to other nodes, by name."""

    fallback: tuple[Name, ...] = ()
    """Take these, in order, when this node fails."""
    escalates: tuple[Name, ...] = ()
    """Ask the first of these that can take the call when this node's answer fails a check of `cascade`."""
    feeds: tuple[Name, ...] = ()
    """This node's output is commonly that one's input; a hint, modalities alone also make the edge."""


class Checks(_Model):
    """What a good answer is: none of these fails. A refusal and an empty answer never are."""

    min_logprob: float | None = Field(None, le=0)
    """Least mean log-probability of the answer's tokens; needs a kind that gives log-probabilities."""
    min_margin: float | None = Field(None, ge=0)
    """Least mean lead of a token's log-probability over the second likeliest one's; needs the same."""
    must_match: str | None = Field(None, max_length=1000)
    """Regular expression that is found in a good answer."""
    must_not_match: str | None = Field(None, max_length=1000)
    """Regular expression that is not, such as the words of a refusal."""
    valid_json: bool = False
    """Whether a good answer is JSON."""

    @property
    def reads_logprobs(self) -> bool:
        """Whether the answer's log-probabilities are needed."""
        return self.min_logprob is not None or self.min_margin is not None

    @field_validator("must_match", "must_not_match")
    @classmethod
    def _expression(cls, pattern: str | None) -> str | None:
        check_pattern(pattern or "")
        return pattern


class Cascade(Checks):
    """When an answer is not good enough, so that the next of `edges.escalates` is asked: when any check here fails.

    The answer is held back until it has been judged.
    """


class Rollout(_Model):
    """How a new version takes over: at first for a share of the node's calls, while the old one answers the others.

    Negative flips are calls that the old version answers acceptably and the new one does not: it fails or its answer
    fails `check`, and the old version, asked the same, does better (and gives the answer); or people rate its answers
    worse. Too many bring the old version back.
    """

    share: float = Field(gt=0, lt=1)
    """Share of the calls that the new version takes until it is promoted."""
    max_flips: float = Field(0.1, ge=0, lt=1)
    """Share of negative flips above which the new version is rolled back."""
    min_answers: int = Field(20, ge=1, le=1_000_000)
    """Answers, or ratings, of the new version before it is judged by them."""
    check: Checks | None = None
    """What a good answer is; the new version's are held back until they have been judged."""


class Argument(_Model):
    """One typed argument of a node that is a tool."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: str = ""
    required: bool = True
    default: Any = None
    enum: tuple[Any, ...] = ()

    def admits(self, value: Any) -> bool:
        """Say whether a value is of the declared type; true and false are no numbers."""
        return isinstance(value, _TYPES[self.type]) and (self.type == "boolean" or not isinstance(value, bool))

    @model_validator(mode="after")
    def _default_fits(self) -> Argument:
        if self.default is not None and self.enum and self.default not in self.enum:
            raise ValueError(f"default {self.default!r} is not one of {list(self.enum)}")
        return self


class Output(_Model):
    """One field of the JSON that a node answers with."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: str = ""


class NodeSpec(_Model):
    """One expert: a model, a tool or an API that takes a call and gives a reply."""

    name: Name
    """Lower-case letters, digits, `.`, `_` and `-`; what callers put in `model`."""
    kind: str
    """How it runs; `modelyard kinds` lists what is installed."""
    description: str = Field(min_length=1, max_length=4000)
    """What it is good at, in a sentence or two; the router and the planner read it."""
    accepts: frozenset[Modality] = Field(frozenset({Modality.TEXT}), min_length=1)
    produces: frozenset[Modality] = Field(frozenset({Modality.TEXT}), min_length=1)
    examples: tuple[Example, ...] = Field((), max_length=10_000)
    """Requests that this node should answer; the router learns from them."""
    default: bool = False
    """Takes what no expert fits. At most one node of a graph."""
    model: str | None = None
    """`hf://org/name[/file]`, `pkg://package/path`, a file path, or the upstream's own name of the model."""
    endpoint: str | None = None
    """Base URL of a remote kind."""
    api_key: str | None = None
    """`${NAME}` of the environment variable that holds it; a literal key is refused."""
    deterministic: bool = False
    """Whether the same call always gets the same answer: then it is kept and given again without asking the node."""
    idempotent: bool = True
    """Whether asking twice does no more than asking once. If not, a call is tried once, and no fallback is asked after
    it; a task of a run that was interrupted is not repeated but ends as `unknown`."""
    changes: bool | None = None
    """Whether a call changes something, so that no plan guesses what to do it to. Unless said, it does if it is not
    idempotent, or its `params.method` is another than GET or HEAD."""
    system_prompt: str | None = Field(None, max_length=100_000)
    template: str | None = Field(None, max_length=100_000)
    """Instruction wrapped around the request; `{input}` stands for its text."""
    context_window: int | None = Field(None, ge=1, le=10**9)
    """Tokens of prompt and answer together."""
    limits: Limits = Limits()
    cost: Cost = Cost()
    scale: Scale = Scale()
    edges: Edges = Edges()
    cascade: Cascade | None = None
    """When to go on along `edges.escalates`; without it nothing does."""
    rollout: Rollout | None = None
    """How a new version takes over; without it at once, as soon as it is loaded."""
    arguments: dict[str, Argument] = Field(default_factory=dict)
    """Typed arguments of a tool; a model node takes `prompt`, `context` and its attachments."""
    outputs: dict[FieldPath, Output] = Field(default_factory=dict, max_length=500)
    """Fields of the JSON that it answers with, by path (`order.id`, `orders.0.id`), for plans to pass on."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The kind's own settings, validated by the kind."""

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"is reserved; choose a name that is none of {', '.join(sorted(RESERVED))}")
        return name

    @field_validator("api_key")
    @classmethod
    def _secret_reference(cls, api_key: str | None) -> str | None:
        if api_key is not None and not SECRET.fullmatch(api_key):
            raise ValueError("must be written as ${NAME}, the name of an environment variable")
        return api_key

    @field_validator("template")
    @classmethod
    def _has_place(cls, template: str | None) -> str | None:
        if template is not None and "{input}" not in template:
            raise ValueError("must contain {input}, where the request's text goes")
        return template

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.match(r"^https?://[^\s/]+", endpoint):
            raise ValueError("must be an http:// or https:// address")
        if endpoint is not None and "@" in endpoint.split("/")[2]:
            raise ValueError("must not contain a user or password; use api_key")
        return endpoint

    @model_validator(mode="after")
    def _consistent(self) -> NodeSpec:
        for kind in ("fallback", "escalates"):
            if self.name in getattr(self.edges, kind):
                raise ValueError(f"edges.{kind} names the node itself")
        if self.outputs and Modality.JSON not in self.produces:
            raise ValueError("outputs are fields of a JSON answer, which the node does not give: say produces: [json]")
        if self.cascade is not None and not self.edges.escalates:
            raise ValueError("cascade needs edges.escalates: the nodes to ask when an answer is not good enough")
        return self

    @property
    def is_tool(self) -> bool:
        """Whether the node takes typed arguments rather than a prompt."""
        return bool(self.arguments)

    @property
    def changes_something(self) -> bool:
        """Whether a call changes something, as far as the declaration tells."""
        if self.changes is not None:
            return self.changes
        return not self.idempotent or str(self.params.get("method", "GET")).upper() not in ("GET", "HEAD")

    def signature(self) -> dict[str, Argument]:
        """Return the arguments that a task of this node may have.

        A tool has those that it declares. A model has `prompt`, `context` (outputs of other tasks, put before the
        prompt) and one for each modality it accepts besides text; without text that attachment is required.
        """
        if self.arguments:
            return dict(self.arguments)
        takes_text = Modality.TEXT in self.accepts
        found: dict[str, Argument] = {}
        if takes_text:
            found["prompt"] = Argument(description="What is asked of the node")
            found["context"] = Argument(type="array", description="Texts to read first", required=False)
        for modality in (Modality.AUDIO, Modality.IMAGE):
            if modality in self.accepts:
                found[modality.value] = Argument(
                    type="object", description=f"The {modality.value} to work on", required=not takes_text
                )
        return found

    def to_yaml_dict(self) -> dict[str, Any]:
        """Return only what differs from the defaults, in plain types: what a user would have written."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        for key in ("accepts", "produces"):
            if key in data:
                data[key] = sorted(data[key])
        return data
