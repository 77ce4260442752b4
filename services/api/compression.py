"""Whether a client takes gzip."""


def accepts_gzip(header: str | None) -> bool:
    """What an ``Accept-Encoding`` header says of gzip (RFC 9110, 12.5.3): named, or ``*``, and not with ``q=0``."""
    weights = dict(_weighted(part) for part in (header or "").lower().split(","))
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _weighted(part: str) -> tuple[str, float]:
    name, *parameters = (item.strip() for item in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0
