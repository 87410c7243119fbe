"""Puts the parts that decide who may do what together, for one gateway."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.access.access import Access, Verify
from deployments.access.api_keys import ApiKeys
from deployments.access.principal import Limits
from deployments.access.quotas import Quotas
from deployments.settings import Settings
from graph.audit import AuditLog
from graph.errors import InvalidRequest
from graph.stores.base import StateStore


@dataclass(frozen=True, slots=True)
class Security:
    """Keys, who has them, what they may use, and what was done with them."""

    keys: ApiKeys
    access: Access
    quotas: Quotas
    audit: AuditLog


def make_security(settings: Settings, store: StateStore) -> Security:
    """Return the parts as the settings have them."""
    keys = ApiKeys(store)
    operator_key = settings.api_key.get_secret_value() if settings.api_key else None
    return Security(keys, Access(keys, operator_key, _verifier(settings)), Quotas(store), AuditLog(store))


def _verifier(settings: Settings) -> Verify | None:
    """Return what verifies the tokens of an issuer. Raises `InvalidRequest` for grants that say nothing."""
    if not settings.oidc_issuer or not settings.oidc_audience:
        return None
    from deployments.access.oidc import OidcOptions, OidcVerifier, parse_grants  # cryptography takes a moment

    try:
        grants = parse_grants(settings.oidc_grants)
    except ValueError as error:
        raise InvalidRequest(str(error), param="oidc_grants") from error
    return OidcVerifier(
        OidcOptions(
            settings.oidc_issuer,
            settings.oidc_audience,
            settings.oidc_jwks_url,
            settings.oidc_claim,
            grants,
            settings.oidc_nodes_claim,
            Limits(settings.oidc_requests, settings.oidc_tokens, settings.oidc_runs, settings.oidc_budget),
        )
    )
