"""Measure the network of a fit rather than its predictions."""

from nwbrnn.mechanism.flow import follow_network, measure_teacher
from nwbrnn.mechanism.responses import compare_responses
from nwbrnn.mechanism.teacher import Teacher, probe_teacher
from nwbrnn.prediction.disturbances import INPUT_LEVELS
from nwbrnn.result import FitResult


def measure_mechanism(result: FitResult) -> dict[str, float]:
    """Return measures of the mechanism of a fit and, if it is known, of the simulated circuit.

    Parameters
    ----------
    result
        A fit.

    Returns
    -------
    dict
        Values by name of the score; see :data:`nwbrnn.evaluation.specs.MEASURED`.
    """
    measured = follow_network(result).measure()
    teacher = Teacher.find(result.recorded)
    if teacher is None:
        return measured
    measured |= {f"{name}, circuit": value for name, value in measure_teacher(teacher).items()}
    noisy = probe_teacher(teacher, INPUT_LEVELS)
    measured |= {f"output skill, circuit with noisy inputs {level:g}": v for level, v in noisy.items()}
    return measured | compare_responses(teacher, result.weights, result.config)
