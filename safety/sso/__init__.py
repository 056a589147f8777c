"""Sign-in at an OpenID Connect provider, beside local accounts: docs/how-to/sign-in-with-oidc.md, ADR 0017."""
