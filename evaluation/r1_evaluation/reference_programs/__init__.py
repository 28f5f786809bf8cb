"""Owners' own packages in throwaway environments: what baselines are checked against."""
