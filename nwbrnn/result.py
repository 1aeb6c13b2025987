"""The result of a fit: plain arrays, numbers and text, ready for a file or a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwbrnn.config import Ended, FitConfig
from nwbrnn.evaluation import LEVELS, Scores
from nwbrnn.html_repr import format_number, format_table, format_text
from nwbrnn.text import show_count
from nwbrnn.threads import limit_threads
from nwbrnn.timeline import to_pynapple

if TYPE_CHECKING:
    from nwbrnn.models import FittedNetwork, Network

MAX_STABLE_RATIO = 2.0  # we warn if outputs grow to this many times their range


@dataclass(frozen=True)
class Run:
    """One network: its weights, its training and its scores.

    Attributes
    ----------
    seed
        Seed of its initial weights.
    weights
        Parameters of a :class:`nwbrnn.models.Network` by name, and ``rate_readout`` (n_units, n_hidden)
        [Hz] with ``rate_readout_offset`` (n_units,) [Hz], which predict all units from the hidden ones.
    history
        Losses by name, one value for each pass of least squares and each epoch, and ``learning_rate``, which
        is 0 for the passes.
    loss
        Total loss of these weights on the validation trials, or on the training trials if there are none [1].
    ended
        Why training ended: all epochs were run, patience ran out, or the user interrupted it.
    free_run
        How far the outputs stray if the network runs on for twice its trained time with its last inputs
        held: the largest output of that time divided by the largest output before [1].
    scores
        Scores on the trials of the test split.
    """

    seed: int
    weights: Mapping[str, NDArray[np.floating]]
    history: Mapping[str, list[float]]
    loss: float
    ended: Ended
    free_run: float
    scores: Scores

    @property
    def warning(self) -> str:
        """A warning about a network that does not come to rest; empty for others."""
        if self.free_run <= MAX_STABLE_RATIO:
            return ""
        return (
            "The network does not come to rest: if it runs on after the trial, its outputs grow to "
            f"{self.free_run:.1f} times their range."
        )

    def __repr__(self) -> str:
        """Return the seed, why training ended, and the first score."""
        n_epochs = max(map(len, self.history.values()), default=0)
        scores = [s for s in self.scores.summary if s.level == LEVELS[0]][:1]
        parts = [
            f"seed {self.seed}",
            f"loss {self.loss:.4g}",
            f"{self.ended} after {show_count(n_epochs, 'pass or epoch', 'passes and epochs')}",
            *(f"{s.name} {s}" for s in scores),
        ]
        return f"Run({', '.join(parts)})"


@dataclass(frozen=True)
class FitResult:
    """A fitted network, its predictions and its scores.

    Attributes
    ----------
    recorded
        The prepared Dataset that the network was compared with, including ``split`` and ``sampled``.
    predicted
        Predictions of the best network for the same trials: ``outputs``, ``rates`` [Hz] and ``hidden``.
    runs
        One network for each seed, the best (lowest ``loss``) first.
    config
        The settings.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> print(repr(result).splitlines()[0])
    FitResult: 35 trials (7 test), 12 units (3 sampled), 3 outputs, 3 inputs, 95 bins of 0.02 s
    """

    recorded: xr.Dataset
    predicted: xr.Dataset
    runs: tuple[Run, ...]
    config: FitConfig

    def __repr__(self) -> str:
        """Return sizes, settings and scores in a few lines."""
        ds, config = self.recorded, self.config
        sizes = [show_count(ds.sizes[dim], dim) for dim in ("trial", "unit", "output", "input")]
        sizes[0] += f" ({int((ds['split'].values == 'test').sum())} test)"
        sizes[1] += f" ({int(ds['sampled'].values.sum())} sampled)"
        best = "only" if len(self.runs) == 1 else f"best of {len(self.runs)}"
        kind = config.nonlinearity if config.network == "rate" else config.network
        network = f"{show_count(config.hidden, f'{kind} unit')} by {config.method}"
        sizes.append(f"{show_count(ds.sizes['time'], 'bin')} of {ds.attrs['bin_size']:g} s")
        return (
            f"FitResult: {', '.join(sizes)}\n"
            f"{network}, dynamics weight {config.dynamics_weight}\n"
            f"{best}: {self.best!r}\n"
            f"{self.scores!r}"
        )

    def _repr_html_(self) -> str:
        scores = self.scores
        r2 = zip(
            self.recorded["output"].values.tolist(),
            scores.output_r2,
            scores.output_known_average,
            strict=True,
        )
        rows = [(name, format_number(value), format_number(known)) for name, value, known in r2]
        about = format_text("\n".join(repr(self).split("\n")[:3]))
        outputs = format_table((f"R2 of outputs, {LEVELS[0]}", "network", "known average"), rows)
        return f"<div>{about}{scores._repr_html_()}{outputs}</div>"

    @property
    def best(self) -> Run:
        """The network with the lowest loss, which does not depend on the test trials."""
        return self.runs[0]

    @property
    def weights(self) -> Mapping[str, NDArray[np.floating]]:
        """Weights of the best network; see :class:`nwbrnn.result.Run`."""
        return self.best.weights

    @property
    def history(self) -> Mapping[str, list[float]]:
        """Losses of the best network; see :class:`nwbrnn.result.Run`."""
        return self.best.history

    @property
    def scores(self) -> Scores:
        """Scores of the best network; see :class:`nwbrnn.result.Run`."""
        return self.best.scores

    def to_pynapple(self) -> dict[str, Any]:
        """Return recorded and predicted data over session time; see :func:`nwbrnn.to_pynapple`."""
        return to_pynapple(self.recorded, self.predicted)

    def predict(self, data: xr.Dataset | ArrayLike) -> xr.Dataset:
        """Return what the best network predicts for other trials, from their inputs alone.

        A network that observes neurons (``observe``) predicts from those of the trials, too, if given any.
        It warns of observed neurons that the trials lack.

        Parameters
        ----------
        data
            A Dataset with the inputs of the fit, such as that of another session or of other conditions; or
            an array of inputs, shape (n_trials, n_time, n_inputs) or (n_time, n_inputs), in bins of the fit.
            An array begins at the first bin of the fit.

        Returns
        -------
        xarray.Dataset
            ``outputs`` in their recorded unit, ``rates`` of all units of the fit [Hz] and ``hidden``.

        Raises
        ------
        SchemaError
            If the inputs, the width of a bin or the units do not fit those of the fit.

        Examples
        --------
        >>> import nwbrnn
        >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
        >>> nothing = np.zeros((50, result.recorded.sizes["input"]))
        >>> result.predict(nothing)["outputs"].dims
        ('trial', 'time', 'output')
        """
        from nwbrnn.prediction import predict_trials

        return predict_trials(self.recorded, self.weights, self.config, data)

    @limit_threads()
    def forecast(self, horizon: int = 10) -> tuple[xr.Dataset, ...]:
        """Return what the best network predicts some bins ahead, from the neurons that it observes.

        Parameters
        ----------
        horizon
            Largest number of bins ahead.

        Returns
        -------
        tuple
            As ``predicted``, for 0, 1, ..., ``horizon`` bins ahead: each bin is predicted from what the
            neurons did until so many bins before. The task is known ahead. With 0 the network has seen the
            neurons of the bin itself.

        Raises
        ------
        ConfigError
            If the fit observes no neurons.

        Examples
        --------
        >>> import nwbrnn
        >>> ds = nwbrnn.read_nwb(example)
        >>> result = nwbrnn.fit(ds, observe="sampled", sampled=3, min_rate=0, hidden=20, epochs=2)
        >>> now, *ahead = result.forecast(3)
        >>> len(ahead), ahead[0]["outputs"].dims
        (3, ('trial', 'time', 'output'))
        """
        from nwbrnn.prediction import forecast

        return tuple(forecast(self.recorded, self.weights, self.config, horizon=horizon))

    def silence(self, units: Sequence[int]) -> xr.Dataset:
        """Return what the best network predicts for all trials if chosen sampled neurons do not fire.

        Parameters
        ----------
        units
            Their ids.

        Returns
        -------
        xarray.Dataset
            As ``predicted``. The hidden units of silent neurons keep the value that stands for 0 Hz.

        Raises
        ------
        ConfigError
            If a unit has no hidden unit of its own, or the network is not a rate network.

        Examples
        --------
        >>> import nwbrnn
        >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
        >>> unit = result.recorded["unit"].values[result.recorded["sampled"].values][0]
        >>> float(result.silence([unit])["rates"].sel(unit=unit).max())
        0.0
        """
        from nwbrnn.prediction import silence

        return silence(self.recorded, self.weights, self.config, units)

    def perturb(
        self, units: Mapping[int, float], *, size: float, at: float = 0.0, duration: float = 0.0
    ) -> xr.Dataset:
        """Return what the best network predicts for all trials if chosen units are pushed.

        Parameters
        ----------
        units
            Weight of each unit by its id: 1 pushes it by ``size``, -0.5 the other way by half of it.
        size
            Total change of the rates [Hz].
        at
            Time at which the push begins, relative to the alignment [s].
        duration
            Time over which the change is spread evenly [s]; 0 applies it within one bin.

        Returns
        -------
        xarray.Dataset
            As ``predicted``. The push acts on the hidden unit of a sampled neuron directly, and on other
            neurons through the readout of rates.

        Raises
        ------
        ConfigError
            If the fit has no such unit or time.

        Examples
        --------
        >>> import nwbrnn
        >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
        >>> pushed = result.perturb({result.recorded["unit"].values[0]: 1.0}, size=10.0, at=0.1)
        >>> pushed["outputs"].dims
        ('trial', 'time', 'output')
        """
        from nwbrnn.prediction import Push, perturb

        push = Push(units, size, at, duration)
        return perturb(self.recorded, self.weights, self.config, push)

    def to_torch(self) -> "FittedNetwork":
        """Return the best network as a torch module that predicts what ``predicted`` holds.

        It observes no neurons. Where each condition has its own initial state, a trial without ``start``
        begins at the mean of these states.

        Returns
        -------
        nwbrnn.models.FittedNetwork
            Its inputs have the shape (n_trials, n_time, n_inputs). It returns ``outputs`` in their recorded
            unit, ``rates`` of all units of the fit [Hz] and ``hidden``. It consists of ordinary torch
            operations, so it can be differentiated any number of times.

        Examples
        --------
        >>> import nwbrnn, torch
        >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
        >>> inputs = torch.tensor(result.recorded["inputs"].values)
        >>> outputs = result.to_torch()(inputs).outputs.detach().numpy()
        >>> bool(np.allclose(outputs, result.predicted["outputs"], rtol=1e-3, atol=1e-3))
        True
        """
        from nwbrnn.training import create_module

        return create_module(self.recorded, self.weights, self.config)

    def build_model(self) -> "Network":
        """Return the best network as a torch module; its inputs have shape (n_trials, n_time, n_inputs)."""
        from nwbrnn.models import NETWORKS

        network = NETWORKS[self.config.network]
        return network.from_weights(self.weights, self.config, bin_size=self.recorded.attrs["bin_size"])
