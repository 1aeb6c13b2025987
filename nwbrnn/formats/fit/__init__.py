"""A fit as a processing module of an NWB file: its layout, encode beside decode, and the ways out."""
