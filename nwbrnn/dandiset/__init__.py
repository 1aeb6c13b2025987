"""Analyse a whole dandiset: list, examine and fit every asset, and write the fits with DANDI's naming."""

from nwbrnn.dandiset.analysis import check_assets, fit_assets, select_assets
from nwbrnn.dandiset.naming import derive_path
from nwbrnn.dandiset.settings import Settings
from nwbrnn.dandiset.summary import Journal, Row, Selection

__all__ = [
    "Journal",
    "Row",
    "Selection",
    "Settings",
    "check_assets",
    "derive_path",
    "fit_assets",
    "select_assets",
]
