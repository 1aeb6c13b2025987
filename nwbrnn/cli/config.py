"""``nwbrnn config``: every setting, its default and what it is."""


def config() -> None:
    """Write a fit.yaml that lists every setting of reading and fitting, with its default and its meaning.

    Change the settings that you need. You can delete the others or leave them unchanged.

    nwbrnn config > fit.yaml
    nwbrnn fit session.nwb -o fit.nwb --config fit.yaml
    """
    from nwbrnn.cli.output import print_text
    from nwbrnn.config.file import format_config

    print_text(format_config())
