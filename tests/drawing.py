"""How Hypothesis draws values: the same ones in each run, however long that takes on a busy machine."""

from hypothesis import HealthCheck, settings

PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def draw(n_examples):
    """Return a decorator of a test with ``given``, which limits the number of examples."""
    return settings(max_examples=n_examples, derandomize=True, **PATIENT)
