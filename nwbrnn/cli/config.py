"""``nwbrnn config``: every setting, its default and what it is."""


def config() -> None:
    """Write a fit.yaml with every setting of reading and fitting, its default and what it means.

    Change what you need and leave the rest out or as it is.

    nwbrnn config > fit.yaml
    nwbrnn fit session.nwb -o fit.nwb --config fit.yaml
    """
    from nwbrnn.cli.output import print_text
    from nwbrnn.config_file import format_config

    print_text(format_config())
