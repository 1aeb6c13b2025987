"""The student network."""

from nwbrnn.models.rate_rnn import RateRNN

__all__ = ["RateRNN"]
