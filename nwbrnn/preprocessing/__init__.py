"""Prepare recordings for a fit. Functions take and return Datasets, and use NumPy and SciPy only."""

from nwbrnn.preprocessing.averaging import (
    ROUNDING,
    average_conditions,
    average_rows,
    average_tests,
    compute_standard_errors,
    find_complete_units,
    match_observed,
)
from nwbrnn.preprocessing.conversion import convert_channels, find_factor
from nwbrnn.preprocessing.emg import (
    ENVELOPES,
    EnvelopeFilter,
    choose_envelope,
    clip_outputs,
    compute_envelope,
    normalize_outputs,
)
from nwbrnn.preprocessing.lag import apply_neural_lag
from nwbrnn.preprocessing.matching import (
    Outline,
    find_mismatches,
    find_unsuitable,
    find_window,
    name_sessions,
    outline,
)
from nwbrnn.preprocessing.normalization import normalize_rates, soft_normalize
from nwbrnn.preprocessing.pooling import cut_window, describe_window, pool
from nwbrnn.preprocessing.prepare import prepare, prepare_perturbed
from nwbrnn.preprocessing.selection import (
    choose_observed,
    choose_sampled,
    select_conditions,
    select_units,
)
from nwbrnn.preprocessing.sessions import (
    align_sessions,
    identify,
    is_aligned,
    is_pooled,
    list_parts,
    list_sessions,
    list_sources,
    list_trials,
    list_units,
    name_rows,
    name_source,
    select_session,
)
from nwbrnn.preprocessing.single_session import list_trained_outputs, view_session
from nwbrnn.preprocessing.smoothing import smooth_causally, smooth_counts, smooth_spikes
from nwbrnn.preprocessing.splits import (
    find_conditions,
    find_trained,
    limit_training,
    split_conditions,
    split_trials,
)

__all__ = [
    "ENVELOPES",
    "ROUNDING",
    "EnvelopeFilter",
    "Outline",
    "align_sessions",
    "apply_neural_lag",
    "average_conditions",
    "average_rows",
    "average_tests",
    "choose_envelope",
    "choose_observed",
    "choose_sampled",
    "clip_outputs",
    "compute_envelope",
    "compute_standard_errors",
    "convert_channels",
    "cut_window",
    "describe_window",
    "find_complete_units",
    "find_conditions",
    "find_factor",
    "find_mismatches",
    "find_trained",
    "find_unsuitable",
    "find_window",
    "identify",
    "is_aligned",
    "is_pooled",
    "limit_training",
    "list_parts",
    "list_sessions",
    "list_sources",
    "list_trained_outputs",
    "list_trials",
    "list_units",
    "match_observed",
    "name_rows",
    "name_sessions",
    "name_source",
    "normalize_outputs",
    "normalize_rates",
    "outline",
    "pool",
    "prepare",
    "prepare_perturbed",
    "select_conditions",
    "select_session",
    "select_units",
    "smooth_causally",
    "smooth_counts",
    "smooth_spikes",
    "soft_normalize",
    "split_conditions",
    "split_trials",
    "view_session",
]
