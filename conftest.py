"""Settings for every test: hypothesis draws the same examples on every machine."""

from hypothesis import settings

settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("reproducible")
