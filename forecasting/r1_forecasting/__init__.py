"""Demand forecasts with calibrated quantiles, and the gate that allows scaling on them.

The forecast target is a quantile of the *maximum* over the lead time (a replica's start-up time
plus the decision period): a replica that starts now has to serve that demand. All lengths are
counted in steps and seasons of the request, so a day may last 86,400 seconds or 60.
"""
