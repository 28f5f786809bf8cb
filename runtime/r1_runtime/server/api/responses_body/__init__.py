"""Bodies of `/v1/responses`: fields, input items, tools."""
