"""Published forecasts by namespace and name, parsed from a JSON list."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from r1_common.contracts.forecast_request import InvalidForecastRequest
from r1_common.untrusted_json import InvalidJson, convert_errors, parse_json
from r1_forecasting.published.publication import Publication, parse_publication

Catalogue = Mapping[tuple[str, str], Publication]
EMPTY: Catalogue = MappingProxyType({})


def parse_catalogue(text: str) -> Catalogue:
    """Parse the list; raises ``InvalidRequest`` that names entry and field, as in ``[2].query``."""
    try:
        entries = parse_json(text)
    except InvalidJson as error:
        raise InvalidForecastRequest(f"is not valid JSON: {error}") from error
    if not isinstance(entries, list):
        raise InvalidForecastRequest("needs to be a JSON list of published forecasts")
    publications: dict[tuple[str, str], Publication] = {}
    for index, entry in enumerate(entries):
        try:
            with convert_errors(InvalidForecastRequest, "the entry"):
                made = parse_publication(entry)
        except InvalidForecastRequest as error:
            joint = "." if isinstance(entry, Mapping) else " "
            raise InvalidForecastRequest(f"[{index}]{joint}{error}") from error
        key = (made.namespace, made.name)
        if key in publications:
            raise InvalidForecastRequest(
                f"[{index}].name: {made.namespace}/{made.name} is published twice; rename one"
            )
        publications[key] = made
    return MappingProxyType(publications)
