"""Demand forecasts with calibrated quantiles, and the gate that says when to act on them.

The target is not a point some minutes away but a quantile of the *maximum* over the lead
time (a replica's start-up plus the decision period): that is what a replica started now
has to carry. Everything is counted in steps and seasons of the request, so a day may last
86,400 seconds or sixty.
"""
