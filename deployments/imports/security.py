"""Security schemes of an OpenAPI document, as references to secrets that the operator sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deployments.imports.request_parts import Inexpressible, RequestParts, variable_name
from deployments.imports.schemas import Schemas, Unresolvable

_TOKENS: Final = {"oauth2": "an OAuth 2 access token", "openIdConnect": "an OpenID Connect access token"}


def add_security(parts: RequestParts, requirements: Any, schemes: Mapping[str, Any]) -> str | None:
    """Add what the first expressible of the alternatives asks for; return the node's `api_key`, if it needs one.

    Raises `Inexpressible` if there are alternatives, and none can be expressed.
    """
    alternatives = (
        [item for item in requirements if isinstance(item, Mapping)] if isinstance(requirements, list) else []
    )
    if not alternatives or any(not item for item in alternatives):
        return None  # nobody need say who he is
    reasons = []
    for alternative in alternatives:
        found = _resolved(alternative, schemes, parts.schemas)
        if reason := next((why for _, scheme in found if (why := _reason(scheme))), None):
            reasons.append(reason)
        elif sum(_is_bearer(scheme) for _, scheme in found) > 1:
            reasons.append("two tokens at a time")
        else:
            return _applied(parts, found)
    raise Inexpressible(f"its security needs {' or '.join(dict.fromkeys(reasons))}")


def _resolved(
    alternative: Mapping[str, Any], schemes: Mapping[str, Any], schemas: Schemas
) -> Sequence[tuple[str, Mapping[str, Any]]]:
    found = []
    for name in alternative:
        try:
            scheme = schemas.resolve(schemes.get(name))
        except Unresolvable:
            scheme = None
        found.append((str(name), scheme if isinstance(scheme, Mapping) else {}))
    return found


def _reason(scheme: Mapping[str, Any]) -> str | None:
    kind = scheme.get("type")
    if kind == "apiKey" and scheme.get("in") in ("header", "query", "cookie") and scheme.get("name"):
        return None
    if kind in _TOKENS or (kind == "http" and str(scheme.get("scheme", "")).lower() in ("bearer", "basic")):
        return None
    return f"the scheme {scheme.get('scheme') or kind}" if kind else "a scheme that is not declared"


def _is_bearer(scheme: Mapping[str, Any]) -> bool:
    return scheme.get("type") in _TOKENS or str(scheme.get("scheme", "")).lower() in ("bearer", "basic")


def _applied(parts: RequestParts, found: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
    api_key = None
    for name, scheme in found:
        variable = variable_name(parts.secret_prefix, name)
        if _is_bearer(scheme) and str(scheme.get("scheme", "")).lower() == "basic":
            parts.secrets[variable] = "user:password in base64, for HTTP Basic"
            parts.params.setdefault("headers", {})["authorization"] = f"Basic ${{{variable}}}"
        elif _is_bearer(scheme):
            parts.secrets[variable] = _TOKENS.get(str(scheme.get("type")), "a bearer token")
            api_key = f"${{{variable}}}"
        else:
            parts.secrets[variable] = f"{scheme['in']} {scheme['name']}"
            _add_key(parts, str(scheme["in"]), str(scheme["name"]), variable)
    return api_key


def _add_key(parts: RequestParts, where: str, name: str, variable: str) -> None:
    if where == "query":
        parts.params.setdefault("query", {})[name] = f"${{{variable}}}"
        return
    headers = parts.params.setdefault("headers", {})
    if where == "header":
        headers[name.lower()] = f"${{{variable}}}"
    else:
        cookie = f"{name}=${{{variable}}}"
        headers["cookie"] = f"{headers['cookie']}; {cookie}" if "cookie" in headers else cookie
