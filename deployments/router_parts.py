"""What the settings say of the router."""

from __future__ import annotations

from deployments.models import resolve_model
from deployments.settings import Settings
from router.encoders import load_encoder
from router.policy import Policy
from router.types import Encoder


def policy_of(settings: Settings) -> Policy:
    """Return how decisions are made."""
    return Policy(
        min_probability=settings.min_probability,
        cost_weight=settings.cost_weight,
        latency_weight=settings.latency_weight,
    )


def encoder_of(settings: Settings) -> Encoder:
    """Return the sentence encoder; its files are found now, the model itself is loaded by the first fit."""
    tokenizer = resolve_model(settings.encoder_tokenizer) if settings.encoder_tokenizer else None
    return load_encoder(resolve_model(settings.encoder_reference()), tokenizer=tokenizer)
