"""Access to a Prometheus that operator, forecaster, backtest Jobs and command line share.

``client_config`` is the configuration, ``credentials`` reads its files, ``response`` turns an HTTP
response into a result or a typed failure, ``selectors`` adds label matchers to a query. The HTTP
client itself belongs to each part: aiohttp in the operator, prometheus-api-client in the forecaster.
"""
