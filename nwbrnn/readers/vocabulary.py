"""The names that laboratories use for series, trial columns, events and outcomes, as tables for the rules."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from nwbrnn.limits import fits_padded

ROLE_WORDS = {
    # NWB has no standard for EMG; these names occur in public files
    "emg": r"emg|electromyo|muscle_?activ|muscles?(?![a-z]|_?(len|vel|force|tension|torque|spindle))",
    "rates": r"firing_?rate",
    "spike_counts": r"binned_?spike|spike_?count",
    "inputs": r"task_?input",
    "other": r"eye|pupil|gaze|target",
    "force": r"force|torque|grip",
    "kinematics": (
        r"hand|finger|cursor|joint|wrist|elbow|kinematic|muscle_?(len|vel)|position|velocity|accel"
        r"|(?<![a-z])(pos|vel|acc)(?![a-z])"
    ),
}
"""Regular expressions on names, with their roles; the first match decides."""

LABELS = ("label", "muscle", "channel_name", "location", "group_name")
"""Columns of the electrodes table that may name channels, best first."""

OUTPUT_ROLES = ("emg", "force", "kinematics")

QUANTITIES = {"velocity": r"vel", "acceleration": r"acc", "angle": r"ang", "position": r"pos"}
"""Kinematic quantities; single-axis series of the same quantity are grouped."""

GO_NAMES = (
    "gocue", "gocueonset", "gocuetimearray0", "go", "goonset", "gosignal", "gotone", "cuestart", "cueonset",
    "gocueon", "gocuestart", "gocues", "gotrigger", "imperative",
    "oton",  # "object turns on", the go cue in a reach-to-grasp task
)  # fmt: skip
MOVE_NAMES = (
    "moveonset", "movementonset", "movebegins", "movementbegins", "movestart", "movementstart", "reachonset",
    "moveon", "movementon", "movonset", "mvtonset", "reachstart", "reachbegins",
)  # fmt: skip
TARGET_NAMES = ("targeton", "targetpresentation", "targetonset", "tgton", "targetshown", "targetcue")
ALIGN_NAMES = (*GO_NAMES, *MOVE_NAMES, *TARGET_NAMES, "start")
"""Names of alignment times, best first, as :func:`simplify` returns them."""

PLACES: tuple[tuple[str, ...], ...] = (
    ("tgt_loc_0", "tgt_loc_1"),
    ("tgt_pos_0", "tgt_pos_1"),
    ("target_x", "target_y"),
    ("target_pos_x", "target_pos_y"),
    ("target_position_x", "target_position_y"),
    ("target_location_x", "target_location_y"),
    ("tgt_x", "tgt_y"),
    ("x_target", "y_target"),
)
"""Pairs of columns that name the condition if targets repeat; targets at random would be a condition each."""

CONDITION_NAMES: tuple[tuple[str, ...], ...] = (
    ("target_dir",),
    ("target_direction",),
    ("tgt_dir",),
    ("direction",),
    ("movement_direction",),
    ("target_angle",),
    ("cond_dir", "ctr_hold_bump"),  # NLB area 2
    ("condition",),
    ("condition_id",),
    ("maze_condition",),
    ("trial_type", "trial_version"),  # NLB maze
    ("tgt_loc", "tgt_obj"),  # FALCON M1
    ("trial_type",),
    ("type",),
    ("target_id",),
    ("target_location",),
    ("target",),
    ("tgt",),
    ("target_location_0", "target_location_1"),
    ("target_position_0", "target_position_1"),
    ("target_pos_0", "target_pos_1"),
    ("target_0", "target_1"),
    *PLACES,
    ("reach_direction",),
    ("reach_dir",),
    ("reach_angle",),
    ("movement_dir",),
    ("movement_angle",),
    ("angle",),
    ("target_index",),
    ("target_number",),
    ("tgt_id",),
    ("cond",),
    ("trial_condition",),
    ("condition_index",),
)
"""Columns, or pairs of them, that name the condition, best first.

Capitals, underscores and the unit of angles at the end do not matter."""

_OUTCOMES = (
    "result", "outcome", "trialresult", "trialoutcome", "tasksuccess", "success", "successful", "rewarded",
    "correct", "iscorrect", "issuccess", "issuccessful", "isrewarded", "isgood", "hit", "trialsuccess",
    "trialcorrect", "correcttrial", "successfultrial", "goodtrial",
)  # fmt: skip
_FAULTS = ("discardtrial", "isbad", "badtrial", "aborted", "isaborted", "trialaborted", "failed")
OUTCOME_COLUMNS = dict.fromkeys(_OUTCOMES, True) | dict.fromkeys(_FAULTS, False)
"""Simplified names of outcome columns, and whether a true value in them means success."""

SUCCESSES = (
    "r", "reward", "rewarded", "s", "success", "successful", "succeeded", "h", "hit", "c", "correct", "good",
    "ok", "pass", "passed", "y", "yes", "t", "true", "1", "82",
)  # fmt: skip
FAILURES = (
    "f", "fail", "failed", "failure", "a", "abort", "aborted", "i", "incomplete", "incorrect", "ignore",
    "ignored", "noresponse", "nochoice", "e", "error", "m", "miss", "missed", "wrong", "bad", "early",
    "earlylick", "timeout", "unrewarded", "norewarded", "notrewarded", "n", "no", "none", "false", "0", "70",
    "65", "73",
)  # fmt: skip
"""Values of outcome columns as lower-case letters and digits; 82, 70, 65 and 73 are R, F, A and I."""

RISES = ("rising", "rise", "up", "on", "onset", "high", "true", "1", "positive", "pos")
FALLS = ("falling", "fall", "down", "off", "offset", "low", "false", "0", "-1", "negative", "neg")
"""States of a line of events; only its rises are events with its name."""

STATE_NAMES = ("value", "state", "level", "edge", "polarity", "direction", "transition", "data")
"""Simplified names of columns in event tables that hold the state of a line."""

_MINUS = "-\u2212"
_TIME_OF = re.compile(r"^(t|time|time_of)_(?=.)", re.IGNORECASE)
_COLUMNS = re.compile(r"columns\s*=\s*\[([^\[\]]*)\]")  # stops at a bracket, so it takes linear time
_AXIS = re.compile(r"(^|_)([xyz])(?=_|$)")
_EYE = re.compile(ROLE_WORDS["other"], re.IGNORECASE)
_LIMB = re.compile(r"hand|finger|cursor|joint|wrist|elbow|arm|muscle", re.IGNORECASE)
_DIRECTION = re.compile(
    r"(?i:(^|_)(dir|direction|angle)($|_))|(?<=[a-z0-9])(Dir|Direction|Angle)(?=$|_|[A-Z])"
)


def squeeze(text: str) -> str:
    """Return a text for comparison: its letters and digits in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def squeeze_value(text: str) -> str:
    """Return a value for comparison: as :func:`squeeze`, but -1 is not 1."""
    plain = squeeze(text)
    return f"-{plain}" if plain.isdigit() and text.strip()[0] in _MINUS else plain


def simplify(name: str) -> str:
    """Return the name of a column for comparison: ``Go_Cue_Time``, ``t_go_cue`` and ``gocue`` are equal."""
    plain = squeeze(_TIME_OF.sub("", name))
    return re.sub(r"(times?|timestamps?)(s|sec|seconds)?$", "", plain) or plain


def find_named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that have one of the names, in the order of the names."""
    return [column for name in names for column in columns if simplify(column) == name]


def find_role(names: Iterable[str]) -> str:
    """Return the role suggested by the names of a series, its type, its container and its module, in order.

    An unspecified position or velocity belongs to the eye if a surrounding name says so. A part of the arm
    counts as a muscle if the next name says so.
    """
    names = tuple(names)
    found = [(name, role) for name in names if (role := _match_role(name))]
    if not found:
        return "other"
    name, role = found[0]
    if role == "kinematics" and not _LIMB.search(name) and any(_EYE.search(other) for other in names):
        return "other"
    if role == "kinematics" and not find_quantity(name) and found[1:] and found[1][1] in ("emg", "force"):
        return found[1][1]
    return role


def _match_role(name: str) -> str | None:
    return next((r for r, pattern in ROLE_WORDS.items() if re.search(pattern, name, re.IGNORECASE)), None)


def find_quantity(name: str) -> str:
    """Return the quantity that the name of a series suggests, such as velocity; empty if none."""
    return next((q for q, pattern in QUANTITIES.items() if re.search(pattern, name, re.IGNORECASE)), "")


def drop_axis(name: str) -> str | None:
    """Return a name without the axis in it: ``vel`` for ``x_vel``; ``None`` if it names no axis."""
    plain, found = _AXIS.subn("", name.lower(), count=1)
    return plain.strip("_") if found else None


def squeeze_condition(name: str) -> str:
    """Return the name of a column for comparison with :data:`CONDITION_NAMES`, without the unit of angles."""
    return (
        re.sub(r"(deg|degrees|rad|radians)$", "", squeeze(name)) if names_direction(name) else squeeze(name)
    )


def names_direction(name: str) -> bool:
    """Return whether the name of a column suggests directions."""
    return bool(_DIRECTION.search(name))


def name_channels(
    text: str, n_channels: int, labels: Mapping[str, Callable[[], Sequence[str]]] = MappingProxyType({})
) -> list[str] | None:
    """Return names of the channels of a series; ``None`` if nothing in the file distinguishes them.

    In the comments or the description of the series, ``columns=[a,b]`` names the channels. ``labels`` are
    functions that read columns of the electrodes table, called in the order of :data:`LABELS`.

    Examples
    --------
    >>> name_channels("columns=[FCR, ECU]", 2)
    ['FCR', 'ECU']
    >>> name_channels("", 2, {"location": lambda: ["arm", "arm"], "label": lambda: ["BIC", "TRI"]})
    ['BIC', 'TRI']
    """
    listed = _COLUMNS.search(text)
    found = [[name.strip() for name in listed.group(1).split(",")]] if listed else []
    tables = (list(map(str, labels[name]())) for name in LABELS if name in labels)
    for names in chain(found, tables):
        if len(names) == n_channels == len(set(names)) and fits_padded(names):
            return names
    return None
