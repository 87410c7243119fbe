"""Puts the parts that decide who may do what together, for one gateway."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.access.access import Access
from deployments.access.api_keys import ApiKeys
from deployments.access.quotas import Quotas
from deployments.settings import Settings
from graph.audit import AuditLog
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
    return Security(keys, Access(keys, operator_key), Quotas(store), AuditLog(store))
