"""The settings of reading."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nwbrnn.config.base import CheckedSettings, Role


class ReadConfig(CheckedSettings):
    """What to read from an NWB file; for ``None`` and ``"auto"``, a rule decides and reports its choice.

    Examples
    --------
    >>> ReadConfig(align_to="go_cue_time", window=(-0.2, 0.5)).bin_size is None
    True
    """

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

    @field_validator("condition")
    @classmethod
    def _refuse_repeats(cls, value: Any) -> Any:
        """Refuse a column that is named twice, since each becomes inputs of its own name."""
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("expected each column once")
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
