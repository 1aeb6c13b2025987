"""What all settings share: their base, their limits, and the types that other parts use."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

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

    # built on first use: half of these classes are only bases of others
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

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
