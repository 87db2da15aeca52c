"""Settings for all tests."""

from hypothesis import settings

# No deadline: it measures how busy the machine is, not whether a property holds.
settings.register_profile("abstractruntime", deadline=None)
settings.load_profile("abstractruntime")
