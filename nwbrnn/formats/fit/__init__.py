"""A fit as a processing module of an NWB file: its layout, how to encode and decode it, and how to export."""
