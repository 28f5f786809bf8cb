"""The demo's trace: 14 days of request counts of a production service.

The numbers are requests per minute in windows of ten minutes, taken from ServeGen (Apache-2.0);
`servegen_m_small.json` names the source.
"""

from __future__ import annotations

import json
from importlib.resources import files

from r1_evaluation.traces.load import RateTrace


def servegen_m_small() -> RateTrace:
    """Return fourteen days, 2,016 windows, of which 37 were never collected."""
    document = json.loads((files("r1_demo") / "servegen_m_small.json").read_text("utf-8"))
    return RateTrace(
        name=document["name"],
        bucket_seconds=float(document["bucket_seconds"]),
        per_minute=tuple(document["requests_per_minute"]),
        prompt_tokens={float(level): v for level, v in document["prompt_tokens"].items()},
        output_tokens={float(level): v for level, v in document["output_tokens"].items()},
        source=f"{document['source']} ({document['licence']})",
    )
