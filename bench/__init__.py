"""The benchmark: Polyrank beside its peers, in one run (`make bench`; docs/performance.md)."""
