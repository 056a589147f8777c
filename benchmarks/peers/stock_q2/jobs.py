"""The job."""


def noop() -> None:
    """Do nothing."""
