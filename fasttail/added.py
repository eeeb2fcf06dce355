"""Names beside fasttail's own, for help and the list of keys.

Those that fasttail has stand in the texts themselves. Others are in registries that a file which
starts the command line (docs/extending.md) has imported; nothing is imported to look for them, so
that help needs no torch.
"""

import sys

REGISTRIES = {
    "sampler": ("fasttail.plan.samplers", "SAMPLERS"),
    "engine": ("fasttail.engines", "ENGINES"),
    "loss": ("fasttail.train.losses", "LOSSES"),
    "method": ("fasttail.classify.methods", "METHODS"),
    "methods": ("fasttail.classify.methods", "METHODS"),
    "samplers": ("fasttail.plan.samplers", "SAMPLERS"),
}


def names(option: str) -> list[str]:
    """What was added to the choices of an option, or of a key of the configuration."""
    kind = option.removesuffix(".name").rsplit(".", 1)[-1]
    module, table = REGISTRIES.get(kind, ("", ""))
    choices = getattr(sys.modules.get(module), table, {})
    return [
        name
        for name, made in choices.items()
        if not getattr(made, "__module__", "").startswith("fasttail.")
    ]


def told(text: str, option: str) -> str:
    """A description, and the names that were added to those in it."""
    added = names(option)
    return f"{text.rstrip('.')}; added: {', '.join(added)}" if added else text
