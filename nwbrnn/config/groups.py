"""The groups of settings that a fit consists of."""

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nwbrnn.config.base import MAX_FACTOR, MAX_SEED, CheckedSettings, Label, Nonlinearity, Parameter

Alignment = Literal["output_gain", "output_offset", "input_gain", "input_offset"]

_WHICH = "expected 'none', 'sampled' or 'all', or ids of units, each once"


class NetworkSettings(CheckedSettings):
    """The network."""

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
        description="one state for all conditions; one for each; or sampled units start from what their "
        "neurons do in the first bin, for recorded rates or simulations (for spikes, use observe)",
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of the noise during training")


class LossSettings(CheckedSettings):
    """The loss."""

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


class ObserverSettings(CheckedSettings):
    """What the network sees of the neurons of single trials."""

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
        0.5,
        ge=0,
        lt=1,
        description="fraction of the observed neurons that each trial loses in each epoch of training",
    )

    @property
    def observes(self) -> bool:
        """Whether neurons correct the state of the network."""
        return self.observe != "none"

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


class TrainingSettings(CheckedSettings):
    """The training."""

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
        "output_weights, output_bias, initial_state, tau, observer_weights",
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


class DataSettings(CheckedSettings):
    """The data, and which of them are held out."""

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
    session_outputs: Literal["shared", "own"] = Field(
        "shared",
        description="whether sessions that are fitted together share a readout for outputs of one name, or "
        "each session has its own",
    )
    align_sessions: tuple[Alignment, ...] = Field(
        ("output_gain", "output_offset"),
        description="what to make the same in sessions that are fitted together: output_gain and "
        "output_offset (of shared outputs), input_gain, input_offset; [] for nothing",
    )
    min_rate: float = Field(
        1.0, ge=0, description="lowest mean rate of a unit [Hz]; slower units are left out"
    )
    neural_lag: float = Field(0.0, description="time by which neurons precede the outputs [s]")

    @model_validator(mode="after")
    def _check_fractions(self) -> Self:
        if self.test + self.validation >= 1:
            raise ValueError("test + validation: expected less than 1, so that trials are left for training")
        return self
