"""The settings of a fit."""

from typing import Self, get_args

from pydantic import model_validator

from nwbrnn.config.base import CheckedSettings, Parameter
from nwbrnn.config.groups import (
    DataSettings,
    LossSettings,
    NetworkSettings,
    ObserverSettings,
    TrainingSettings,
)

GROUPS: tuple[type[CheckedSettings], ...] = (
    NetworkSettings,
    LossSettings,
    ObserverSettings,
    TrainingSettings,
    DataSettings,
)
"""The groups of settings, in the order of ``fit.yaml``."""


# pydantic lists the fields of the last base first
class FitConfig(DataSettings, TrainingSettings, ObserverSettings, LossSettings, NetworkSettings):
    """How to prepare the data, which network to use, and how to fit it.

    Its settings come in groups: network, loss, observer, training and data.

    Examples
    --------
    >>> config = FitConfig(sampled="25%", tau=0.05)
    >>> config.sampled, config.hidden
    (0.25, 200)
    """

    @property
    def trains_on_averages(self) -> bool:
        """Whether the training data are condition averages."""
        return self.average and not self.observes

    @property
    def recurrent_limits(self) -> list[str]:
        """The settings that limit recurrent weights, which least squares cannot keep."""
        limits = [name for name in ("excitatory", "rank") if getattr(self, name) is not None]
        return limits + ["density"] * (self.density < 1)

    @property
    def counted(self) -> tuple[str, int | None]:
        """What the progress of a fit counts, epochs or networks, and the largest number if it is known."""
        if "cv" in (self.dynamics_weight, self.weight_penalty):
            return "network", None
        return ("network", self.seeds) if self.seeds > 1 else ("epoch", self.epochs)

    @property
    def begins_by_least_squares(self) -> bool:
        """Whether least squares finds the weights, or the first ones; otherwise only epochs change them."""
        kept = self.start_from is not None or self.freeze or self.recurrent_limits
        return self.network == "rate" and self.method != "gradient" and not kept

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        plain = type(self).model_fields
        names = ("nonlinearity", "tau", "learn_tau", "substeps", "excitatory", "density", "rank")
        if self.network == "gru":
            for name in names:
                if getattr(self, name) != plain[name].default:
                    raise ValueError(f"{name}: expected no value, since network 'gru' does not use it")
            if self.method == "least_squares" or self.precision == "bfloat16":
                name = "method" if self.method == "least_squares" else "precision"
                raise ValueError(
                    f"{name}: expected a value that network 'gru' supports, but got {getattr(self, name)!r}"
                )
        return self

    @model_validator(mode="after")
    def _check_observer(self) -> Self:
        gradient = "only gradient descent fits an observer: use 'auto' or 'gradient'"
        state = "neurons correct the state from the first bin on: use 'learned' or 'condition'"
        for name, is_wrong, remedy in (
            ("precision", self.precision == "bfloat16", "use float32 or float64"),
            ("method", self.method == "least_squares", gradient),
            ("initial_state", self.initial_state == "data", state),
            ("virtual_targets", self.virtual_targets > 0, "there are no virtual single trials: use 0"),
        ):
            if self.observes and is_wrong:
                raise ValueError(
                    f"{name}: expected a value with which neurons can be observed, but got "
                    f"{getattr(self, name)!r}; {remedy}, or set observe to none"
                )
        return self

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.virtual_targets and not self.average:
            raise ValueError(
                "virtual_targets: expected the setting average to be true; there are no virtual single trials"
            )
        if self.stop_after == 0 and self.start_from is None and not self.begins_by_least_squares:
            raise ValueError(
                "stop_after: expected at least 1 epoch, since only gradient descent finds the weights "
                "(method 'gradient', network 'gru', freeze, or a limit of the recurrent weights), but got 0"
            )
        if self.rank is not None and (self.excitatory is not None or self.density < 1):
            raise ValueError("rank: cannot be combined with excitatory or density; leave out one of them")
        if self.rank is not None and self.rank > self.hidden:
            raise ValueError(f"rank: expected at most {self.hidden} (hidden), but got {self.rank}")
        if self.dynamics_of == "derivative" and self.dynamics_error == "poisson":
            raise ValueError("dynamics_of: expected 'rates' with a Poisson error; counts have no derivative")
        return self

    @model_validator(mode="after")
    def _check_kept_weights(self) -> Self:
        kept = [name for name in ("start_from", "freeze") if getattr(self, name)]
        if kept and self.method == "least_squares":
            raise ValueError(
                f"method: expected 'auto' or 'gradient' with {kept[0]}, since least squares replaces all "
                "weights"
            )
        return self

    @model_validator(mode="after")
    def _check_frozen(self) -> Self:
        absent = {"tau": ("learn_tau", self.learn_tau), "observer_weights": ("observe", self.observes)}
        for name, (setting, has) in absent.items():
            if name in self.freeze and not has:
                raise ValueError(f"freeze: expected no {name!r} without {setting}, since there are none then")
        learned = set(get_args(Parameter)) - {name for name, (_, has) in absent.items() if not has}
        if set(self.freeze) == learned:
            raise ValueError("freeze: expected some weights that are trained, but all of them are frozen")
        if "observer_weights" in self.freeze and self.start_from is None:
            raise ValueError(
                "freeze: expected no 'observer_weights' without start_from, since they would stay 0"
            )
        return self

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.start_from is None:
            return self
        for name in ("excitatory", "rank", "density"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}: expected no limit of the recurrent weights with start_from, since the earlier "
                    "weights may not keep it"
                )
        for name in ("dynamics_weight", "weight_penalty"):
            if getattr(self, name) == "cv":
                raise ValueError(
                    f"{name}: expected a number with start_from, since the earlier network may have seen the "
                    "trials that cross-validation leaves out"
                )
        return self
