"""What can go wrong with the log."""


class LogError(Exception):
    """Base of the log's errors."""


class LogUnavailableError(LogError):
    """The log cannot be reached or does not answer; what was sent may or may not be stored."""


class UndecodableEntryError(LogError):
    """A stream entry is no event this build can read."""
