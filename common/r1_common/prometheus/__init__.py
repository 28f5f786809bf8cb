"""Prometheus client code that operator, forecaster, backtest Jobs and command line share.

``client_config`` is the configuration, ``credentials`` reads its files, ``response`` parses an HTTP
response into a result or a typed failure, ``selectors`` adds label matchers to a query. Each component
has its own HTTP client: aiohttp in the operator, prometheus-api-client in the forecaster.
"""
