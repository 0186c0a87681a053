"""Which tokens an installation takes, chosen by its settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import SettingsError
from shared.security.tokens import DevelopmentTokens
from shared.security.uaa import UaaTokens

if TYPE_CHECKING:
    from shared.security.callers import TokenVerifier
    from shared.settings import Settings


def create_verifier(settings: Settings) -> TokenVerifier:
    """The verifier for these settings: UAA's tokens, or our own where that is all a developer has.

    Raises SettingsError when the settings allow no token at all.
    """
    if settings.uaa_url or settings.token_secrets:
        return UaaTokens(settings)
    if settings.environment != "development":
        raise SettingsError(
            "SAFEKEEP_UAA_URL: is not set, and neither is SAFEKEEP_TOKEN_SECRETS: nobody's token could be verified "
            "(SAFEKEEP_TOKEN_KEY is for development only)"
        )
    return DevelopmentTokens(settings)
