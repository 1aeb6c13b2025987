"""Whether a student works as its teacher does: responses, fixed points, modes; and whether students agree."""

from nwbrnn.mechanism.effects import Effect, list_effects, score_perturbed
from nwbrnn.mechanism.measures import measure_mechanism
from nwbrnn.mechanism.responses import compare_responses
from nwbrnn.mechanism.teacher import Teacher, probe_teacher

__all__ = [
    "Effect",
    "Teacher",
    "compare_responses",
    "list_effects",
    "measure_mechanism",
    "probe_teacher",
    "score_perturbed",
]
