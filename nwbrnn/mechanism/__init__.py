"""Compare how network and simulated circuit work, such as by fixed points, and networks of several seeds."""

from nwbrnn.mechanism.agreement import compare_networks, compare_runs, find_determined_share, predict_mean
from nwbrnn.mechanism.effects import Effect, list_effects, score_perturbed
from nwbrnn.mechanism.flow import Motion, follow_network, follow_teacher
from nwbrnn.mechanism.measures import measure_mechanism
from nwbrnn.mechanism.responses import compare_responses
from nwbrnn.mechanism.teacher import Teacher, probe_teacher

__all__ = [
    "Effect",
    "Motion",
    "Teacher",
    "compare_networks",
    "compare_responses",
    "compare_runs",
    "find_determined_share",
    "follow_network",
    "follow_teacher",
    "list_effects",
    "measure_mechanism",
    "predict_mean",
    "probe_teacher",
    "score_perturbed",
]
