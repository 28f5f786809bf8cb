"""Reference programs: peers' own packages in environments of their own, to check baselines against."""
