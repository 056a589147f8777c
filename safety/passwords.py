"""How passwords are hashed."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes, one lane: OWASP's figure for servers.

    Django's own takes 100 MiB for each try: a hundred strangers at once would take 10 GB of the web process.
    """

    memory_cost = 19 * 1024
    time_cost = 2
    parallelism = 1
