"""The settings of reading and fitting: this module declares and checks names, defaults and ranges."""

import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Role = Literal["emg", "force", "kinematics", "inputs", "rates", "spike_counts", "trials"]
Nonlinearity = Literal["tanh", "softplus", "soc"]
Parameter = Literal[
    "recurrent_weights", "input_weights", "bias", "output_weights", "output_bias", "initial_state", "tau",
    "observer_weights",
]  # fmt: skip
"""What a network learns, by the names of its weights; ``tau`` only with ``learn_tau``, ``observer_weights``
only with ``observe``.
"""


def _write_number(value: object) -> object:
    """Return a number as text, since conditions are labels but people write directions as numbers."""
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Label = Annotated[str, BeforeValidator(_write_number)]
Ended = Literal["finished", "patience", "interrupted"]
"""Why the training of a network ended."""


MAX_SEED = 2**63 - 1001
"""The largest first seed: the 1,000 seeds that may follow it still fit in a signed 64-bit integer."""
MAX_NUMBER = 1e9
"""The largest value of any setting; the smallest is its inverse. As times: 30 years and a nanosecond."""
MAX_FACTOR = 1e6
"""The largest factor of an output or a unit: in float32, a larger one would hide the other errors."""


class CheckedSettings(BaseModel):
    """Base of all settings: it refuses unknown names, booleans in place of numbers, and extreme numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false in place of a number; YAML also reads yes and no as booleans."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected a value other than true or false")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_extremes(cls, value: Any) -> Any:
        """Refuse numbers so extreme that sums and quotients would overflow or underflow."""
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and number and not 1 / MAX_NUMBER <= abs(number) <= MAX_NUMBER:
                raise ValueError(f"expected 0, or a number from {1 / MAX_NUMBER:g} to {MAX_NUMBER:g}")
        return value


class ReadConfig(CheckedSettings):
    """What to read from an NWB file; for ``None`` and ``"auto"``, a rule decides and reports its choice."""

    map: dict[Role, str] = Field(
        {},
        description="role -> path of the object with this role, or several paths with commas; overrides "
        "every rule",
    )
    outputs: str | tuple[str, ...] = Field(
        "auto",
        description="'emg', 'force', 'kinematics', or paths of series such as processing/behavior/force",
    )
    channels: tuple[str, ...] | None = Field(
        None, description="names of the outputs to keep, such as muscles; all by default"
    )
    inputs: str | tuple[str, ...] = Field(
        "auto", description="'task' (built from the trial table) or paths of recorded series"
    )
    rates: str = Field(
        "auto", description="'spikes' (smoothed counts) or the path of a series of firing rates"
    )
    align_to: str | None = Field(None, description="trial column with the time that becomes 0")
    window: tuple[float, float] | Literal["trial"] | None = Field(
        None,
        description="start and stop relative to time 0 [s], or 'trial': whole trials, with bins outside "
        "them masked",
    )
    bin_size: float | None = Field(None, gt=0, description="width of a time bin [s]")
    condition: str | tuple[str, ...] | None = Field(
        None, description="trial column or columns that name the condition"
    )
    where: dict[str, str] | None = Field(
        None, description="trials to keep: column -> value, or values with commas; {} keeps all"
    )
    sectors: int = Field(
        8,
        ge=2,
        le=360,
        description="number of conditions into which directions are grouped if nearly every trial has its "
        "own direction",
    )
    second_harmonic: float = Field(
        0.0,
        ge=0,
        le=10,
        description="size of two more inputs, cosine and sine of twice a direction; 0 leaves them out",
    )
    units: dict[str, str] = Field(
        {}, description="units to keep: column -> value, or values with commas, such as location: M1"
    )
    smoothing: float = Field(
        0.05, ge=0, le=10, description="standard deviation of the Gaussian that turns counts into rates [s]"
    )
    stamps: Literal["auto", "start", "centre", "end"] = Field(
        "auto", description="which part of a sample its time stamp marks, for all series"
    )
    emg: Literal["auto", "raw", "envelope"] = Field(
        "auto", description="whether the EMG is raw, so that its envelope must be extracted"
    )
    emg_filter: Literal["miller", "falcon"] = Field(
        "miller",
        description="filters that turn raw EMG into its envelope: of the Miller laboratory (high-pass 50 Hz, "
        "low-pass 10 Hz), or of FALCON (also notches at 60, 180, 200, 300 and 400 Hz, high-pass 65 Hz)",
    )
    emg_high_pass: float | None = Field(
        None, gt=0, description="corner frequency of the high-pass, instead of that of emg_filter [Hz]"
    )
    emg_low_pass: float | None = Field(
        None, gt=0, description="corner frequency of the low-pass, instead of that of emg_filter [Hz]"
    )
    emg_notch: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None,
        description="frequencies to cut out, such as those of the power line and its harmonics, instead of "
        "those of emg_filter; [] for none [Hz]",
    )
    nan: Literal["raise", "mask"] = Field("raise", description="what to do with NaN in the data")
    follow_links: bool = Field(False, description="whether links in the file may lead to other files")

    @field_validator("outputs", "channels", "inputs", "condition")
    @classmethod
    def _refuse_nothing(cls, value: Any) -> Any:
        """Refuse an empty name or list."""
        if value in ("", ()):
            raise ValueError("expected at least one name")
        return value

    @field_validator("map", "where", "units", mode="before")
    @classmethod
    def _write_values(cls, values: Any) -> Any:
        """Convert numbers, booleans and lists from YAML to their command-line text."""
        if not isinstance(values, dict):
            return values
        plain = {k: v if isinstance(v, list | tuple) else [v] for k, v in values.items()}
        return {k: ",".join(map(str, v)) if None not in v else None for k, v in plain.items()}

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if isinstance(self.window, tuple) and not self.window[0] < self.window[1]:
            raise ValueError(f"window: expected start < stop, but got {self.window}")
        return self


_WHICH = "expected 'none', 'sampled' or 'all', or ids of units, each once"
_OBSERVER_NEEDS = {
    "network": "only a rate network has an observer: use 'rate'",
    "precision": "use float32 or float64",
    "method": "only gradient descent fits an observer: use 'auto' or 'gradient'",
    "initial_state": "'data' reads rates that are smoothed ahead: use 'learned' or 'condition'",
    "virtual_targets": "there are no virtual single trials: use 0",
}


class FitConfig(CheckedSettings):
    """How to prepare the data, which network to use, and how to fit it."""

    # the network
    network: Literal["rate", "gru"] = Field(
        "rate", description="rate network, or gated recurrent unit, which can be fitted only by gradient"
    )
    hidden: int = Field(
        200,
        ge=1,
        le=50_000,
        description="number of hidden units; the first ones stand for the sampled neurons",
    )
    nonlinearity: Nonlinearity = Field(
        "tanh",
        description="function from state to rate: 'tanh', 'softplus', or 'soc', the gain function of "
        "Stroud et al. 2018",
    )
    tau: float = Field(0.1, gt=0, description="time constant of the hidden units [s]")
    learn_tau: bool = Field(False, description="whether each hidden unit learns its own time constant")
    substeps: int = Field(1, ge=1, le=100, description="number of integration steps in each bin")
    gain: float = Field(0.5, ge=0, description="spectral radius of the initial recurrent weights")
    excitatory: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="fraction of excitatory hidden units (Dale's law); if not given, Dale's law does not "
        "apply",
    )
    density: float = Field(1.0, gt=0, le=1, description="fraction of recurrent weights that exist")
    rank: int | None = Field(
        None, ge=1, le=50_000, description="rank of the recurrent weights; full rank if not given"
    )
    initial_state: Literal["learned", "condition", "data"] = Field(
        "learned",
        description="one state for all conditions; one for each; or sampled units start from their first "
        "rates",
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of the noise during training")

    # the loss
    sampled: int | float | Literal["all"] = Field(
        0.25, description="sampled neurons: a number, a fraction < 1, a percentage such as '25%', or 'all'"
    )
    dynamics_weight: float | Literal["cv"] = Field(
        1.0,
        description="weight of the dynamics error, lambda; 0 trains on the outputs only; 'cv' selects it, "
        "and the number of epochs, by cross-validation",
    )
    dynamics_error: Literal["squared", "poisson"] = Field(
        "squared",
        description="error of the sampled neurons: squared error of rates, or Poisson likelihood of spike "
        "counts",
    )
    dynamics_of: Literal["rates", "derivative"] = Field(
        "rates",
        description="whether to compare the rates of the sampled neurons, or their change from bin to bin",
    )
    output_importance: dict[str, float] = Field(
        {}, description="output -> factor of its error; 1 for the others"
    )
    unit_importance: dict[str, float] = Field(
        {}, description="sampled unit -> factor of its error; 1 for the others"
    )
    weight_penalty: float | Literal["cv"] = Field(
        1e-3,
        description="factor of the sum of squared recurrent and output weights; 'cv' as for dynamics_weight",
    )
    input_penalty: float = Field(
        0.0, ge=0, description="factor of the sum of squared input weights, in gradient descent"
    )
    rate_penalty: float = Field(0.0, ge=0, description="factor of the mean squared hidden rate")
    smoothness_penalty: float = Field(
        0.0, ge=0, description="factor of the mean squared change of hidden rates from bin to bin"
    )

    # the observer
    observe: Literal["none", "sampled", "all"] | tuple[int, ...] = Field(
        "none",
        description="neurons whose spikes correct the state of the network after each bin of a single trial: "
        "'none', 'sampled', 'all', or ids of units, which are then sampled, too; if neurons are observed, "
        "nwbrnn trains on single trials",
    )
    observe_read: Literal["corrected", "prediction"] = Field(
        "corrected",
        description="what the outputs of a bin are read from: the state that the neurons of this bin have "
        "corrected, or its prediction from earlier bins",
    )
    observe_smoothing: float = Field(
        0.05,
        ge=0,
        le=10,
        description="time constant of the causal exponential filter of observed spike counts; 0 leaves them "
        "as they are [s]",
    )
    observe_penalty: float = Field(
        1e-2, ge=0, description="factor of the sum of squared weights from observed neurons to hidden units"
    )
    observe_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the observed neurons that each trial loses in each epoch of training",
    )

    # the fit
    method: Literal["auto", "gradient", "least_squares"] = Field(
        "auto",
        description="auto: least squares, then gradient descent; or only one of them. With start_from and "
        "freeze, auto is gradient descent alone",
    )
    start_from: str | None = Field(
        None,
        min_length=1,
        description="file with an earlier fit of the same network, inputs and outputs, at whose weights "
        "training begins",
    )
    freeze: tuple[Parameter, ...] = Field(
        (),
        description="weights that training leaves as they are: recurrent_weights, input_weights, bias, "
        "output_weights, output_bias, initial_state, tau",
    )
    epochs: int = Field(
        600,
        ge=1,
        le=10**9,
        description="maximum number of epochs; each is a step of Adam on all training data",
    )
    learning_rate: float = Field(3e-3, gt=0, description="learning rate of Adam")
    max_gradient_norm: float = Field(
        1.0, gt=0, description="largest norm of a gradient; longer ones are clipped"
    )
    patience: int = Field(
        150,
        ge=1,
        le=10**9,
        description="number of epochs without a better validation loss after which training stops",
    )
    stop_after: int | None = Field(
        None,
        ge=0,
        le=10**9,
        description="number of epochs after which training stops, whatever the validation loss",
    )
    retry: bool = Field(
        False, description="whether to start a diverged fit once more, with a quarter of the learning rate"
    )
    precision: Literal["float32", "float64", "bfloat16"] = Field(
        "float32", description="precision of the arithmetic; bfloat16 is for GPUs"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where to run; auto: on a GPU if there is one"
    )
    processes: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="number of processes for several seeds, cross-validation and sweeps; by default one "
        "per core",
    )
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="seed of the split, the sampled neurons and the initial weights"
    )
    seeds: int = Field(
        1,
        ge=1,
        le=1000,
        description="number of networks, with seeds from 'seed' on; they differ only in their weights",
    )

    # the data
    average: bool = Field(
        True,
        description="whether to train on condition averages, not on single trials; if neurons are observed, "
        "always on single trials",
    )
    test: float = Field(0.25, gt=0, lt=1, description="fraction of the trials of each condition to hold out")
    validation: float = Field(
        0.1, ge=0, lt=1, description="fraction of the trials of each condition for early stopping"
    )
    held_out_conditions: tuple[Label, ...] = Field(
        (), description="conditions to hold out, instead of trials of every condition"
    )
    held_out: Literal["condition", "outputs"] = Field(
        "condition",
        description="what to hold out of these conditions: everything, or only the outputs, while the "
        "neurons are trained on",
    )
    train_until: float | None = Field(
        None, description="last time to train on [s]; later bins are not trained on"
    )
    train_trials: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="maximum number of training trials of each condition; others are left out",
    )
    perturbed: str | None = Field(
        None,
        description="trial column, such as opto, that marks perturbed trials; the fit leaves them out",
    )
    virtual_targets: int = Field(
        0,
        ge=0,
        le=360,
        description="number of directions around the circle to train on as well, with the time courses that "
        "ridge regression on two harmonics of the direction predicts; for held-out directions",
    )
    output_percentile: float = Field(
        95.0,
        gt=0,
        le=100,
        description="percentile of the absolute values of an output in training, which is its scale",
    )
    output_clip: float = Field(
        3.0, gt=0, description="larger values are clipped to this many times the scale of their output"
    )
    min_rate: float = Field(
        1.0, ge=0, description="lowest mean rate of a unit [Hz]; slower units are left out"
    )
    neural_lag: float = Field(0.0, description="time by which neurons precede the outputs [s]")

    @property
    def observes(self) -> bool:
        """Whether neurons correct the state of the network."""
        return self.observe != "none"

    @property
    def trains_on_averages(self) -> bool:
        """Whether the training data are condition averages."""
        return self.average and not self.observes

    @property
    def dynamics_factor(self) -> float:
        """``dynamics_weight`` as a number."""
        return self.get_number("dynamics_weight")

    @property
    def penalty_factor(self) -> float:
        """``weight_penalty`` as a number."""
        return self.get_number("weight_penalty")

    def get_number(self, name: str) -> float:
        """Return a setting that may be ``"cv"`` until cross-validation has chosen a number."""
        value = getattr(self, name)
        if value == "cv":
            raise ValueError(f"expected {name} to be chosen before training, but it is still 'cv'")
        return float(value)

    @field_validator("dynamics_weight", "weight_penalty")
    @classmethod
    def _refuse_negative(cls, value: Any) -> Any:
        if not isinstance(value, str) and value < 0:
            raise ValueError("expected a number greater than or equal to 0, or 'cv'")
        return value

    @field_validator("sampled", mode="before")
    @classmethod
    def _read_percentage(cls, value: Any) -> Any:
        """Convert 25% to 0.25, 100% to all, and numbers written as text to numbers."""
        if not isinstance(value, str) or value == "all":
            return value
        text = value.strip()
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("expected a number, a percentage or 'all'")
        number = int(number) if number.is_integer() else number
        if not text.endswith("%"):
            return number
        if not 0 <= number <= 100:
            raise ValueError("expected a percentage from 0 to 100")
        return "all" if number == 100 else number / 100

    @field_validator("sampled")
    @classmethod
    def _check_sampled(cls, value: Any) -> Any:
        if value != "all" and (value < 0 or (value >= 1 and value != int(value))):
            raise ValueError("expected a whole number of 0 or more, or a fraction below 1")
        return value

    @field_validator("observe", mode="before")
    @classmethod
    def _read_units(cls, value: Any) -> Any:
        """Take one id, or several with commas, as a list."""
        if isinstance(value, int) and not isinstance(value, bool):
            return (value,)
        if isinstance(value, str) and value not in ("none", "sampled", "all"):
            parts = [part.strip() for part in value.split(",")]
            if not all(part.isdecimal() for part in parts):
                raise ValueError(_WHICH)
            return tuple(map(int, parts))
        return value

    @field_validator("observe")
    @classmethod
    def _refuse_no_units(cls, value: Any) -> Any:
        if not value or (isinstance(value, tuple) and len(set(value)) < len(value)):
            raise ValueError(_WHICH)
        return value

    @field_validator("output_importance", "unit_importance", mode="before")
    @classmethod
    def _write_names(cls, values: Any) -> Any:
        """Convert unit names that YAML has read as numbers back to names."""
        return {str(k): v for k, v in values.items()} if isinstance(values, dict) else values

    @field_validator("output_importance", "unit_importance")
    @classmethod
    def _check_importance(cls, values: dict[str, float]) -> dict[str, float]:
        if not all(0 <= value <= MAX_FACTOR for value in values.values()):
            raise ValueError(f"expected factors from 0 to {MAX_FACTOR:g}")
        return values

    @model_validator(mode="after")
    def _check_fractions(self) -> Self:
        if self.test + self.validation >= 1:
            raise ValueError("test + validation: expected less than 1, so that trials are left for training")
        return self

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
        wrong = {
            "network": self.network != "rate",
            "precision": self.precision == "bfloat16",
            "method": self.method == "least_squares",
            "initial_state": self.initial_state == "data",
            "virtual_targets": self.virtual_targets > 0,
        }
        for name, is_wrong in wrong.items():
            if self.observes and is_wrong:
                raise ValueError(
                    f"{name}: expected a value with which neurons can be observed, but got "
                    f"{getattr(self, name)!r}; {_OBSERVER_NEEDS[name]}, or set observe to none"
                )
        return self

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.virtual_targets and not self.average:
            raise ValueError(
                "virtual_targets: expected the setting average to be true; there are no virtual single trials"
            )
        if self.stop_after == 0 and self.method == "gradient" and self.start_from is None:
            raise ValueError("stop_after: expected at least 1 epoch with method 'gradient', but got 0")
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
        absent = {"tau": ("learn_tau", self.learn_tau), "observer_weights": ("observe", self.observes)}
        for name, (setting, has) in absent.items():
            if name in self.freeze and not has:
                raise ValueError(f"freeze: expected no {name!r} without {setting}, since there are none then")
        learned = set(get_args(Parameter)) - {name for name, (_, has) in absent.items() if not has}
        if set(self.freeze) == learned:
            raise ValueError("freeze: expected some weights that are trained, but all of them are frozen")
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


class SweepConfig(CheckedSettings):
    """The grid of a sweep: every combination is one cell."""

    sampled: tuple[int | float | str, ...] = Field(
        (0, 5, 10, 20, 50, "100%"),
        min_length=1,
        description="numbers of sampled neurons, each as in FitConfig.sampled",
    )
    seeds: int = Field(
        10, ge=1, le=1000, description="number of networks for each combination, with seeds from 0 on"
    )
    held_out: Literal["trials", "condition", "outputs", "between"] = Field(
        "trials",
        description="what to hold out: trials of each condition; each condition in turn, all of it or only "
        "its outputs; or every other condition at once",
    )
    vary: dict[str, tuple[Any, ...]] = Field({}, description="other settings of a fit -> their values")
    resamples: int = Field(
        25,
        ge=0,
        le=100_000,
        description="number of resampled sets of test trials for the interval of a score",
    )

    @field_validator("vary", mode="before")
    @classmethod
    def _list_values(cls, values: Any) -> Any:
        """Convert a single value to a list of one."""
        if not isinstance(values, dict):
            return values
        return {k: tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in values.items()}

    @field_validator("vary")
    @classmethod
    def _check_vary(cls, values: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        own = {"sampled", "seed", "seeds", "held_out", "held_out_conditions", "start_from"}
        known = set(FitConfig.model_fields) - own
        wrong = sorted(set(values) - known)
        if wrong:
            raise ValueError(
                f"expected settings of a fit other than {', '.join(sorted(own))}, but got {', '.join(wrong)}"
            )
        return values


class JobConfig(CheckedSettings):
    """The sections of a ``fit.yaml``."""

    read: ReadConfig = ReadConfig()
    fit: FitConfig = FitConfig()

    @field_validator("read", "fit", mode="before")
    @classmethod
    def _allow_nothing(cls, value: Any) -> Any:
        """Use the defaults for a section without settings."""
        return {} if value is None else value
