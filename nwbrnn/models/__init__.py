"""Networks by the value of the setting ``network``. Only models, losses and training use torch."""

from nwbrnn.models.gated_rnn import GatedRNN
from nwbrnn.models.network import Network
from nwbrnn.models.observer import Observations, Tracked
from nwbrnn.models.plain import FittedNetwork, Prediction
from nwbrnn.models.rate_rnn import RateRNN

NETWORKS: dict[str, type[Network]] = {"rate": RateRNN, "gru": GatedRNN}

__all__ = [
    "NETWORKS",
    "FittedNetwork",
    "GatedRNN",
    "Network",
    "Observations",
    "Prediction",
    "RateRNN",
    "Tracked",
]
