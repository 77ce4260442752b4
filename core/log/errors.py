"""What can go wrong with the log."""


class LogError(Exception):
    """Base of the log's errors."""


class LogUnavailableError(LogError):
    """The log cannot be reached or does not answer; what was sent may or may not be stored."""


class DamagedLogError(LogUnavailableError):
    """A key of the log holds something else; the message names it and says what to do."""


class UndecodableEntryError(LogError):
    """A stream entry is no event this build can read."""


class UnknownLetterError(LogError):
    """No dead letter stands there; it may have been redriven, purged, or pushed out by newer ones."""


class UnknownSourceError(LogError):
    """The deployment has no source stream of that name."""
