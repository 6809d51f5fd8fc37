"""International names, as the URL standard writes them in ASCII.

IDNA 2008 alone refuses names that people have and browsers open, symbols and emoji among them. So
this is UTS 46 with the parameters of the URL standard ("domain to ASCII", not strict), over the
tables of the idna package.
"""

from __future__ import annotations

from functools import lru_cache
from unicodedata import bidirectional

_PREFIX = "xn--"
_LONGEST_LABEL = 63
_LONGEST_NAME = 254
"""RFC 1035, section 2.3.4, with a final dot. Names are no shorter in ASCII; encoding takes time."""
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_JOINERS = frozenset("\u200c\u200d")


def has_alabel(name: str) -> bool:
    """Whether a lower-case ASCII name has a label that stands for an international one."""
    return name.startswith(_PREFIX) or "." + _PREFIX in name


@lru_cache(512)
def to_ascii(name: str) -> str:
    """The ASCII form of a name (UTS 46, sections 4 and 4.2): mapped, normalised, checked, encoded.

    Its empty labels, exact lengths and ASCII characters are the caller's to judge. Raises
    ValueError, whose message may quote the name.
    """
    import idna  # costs start-up time, and few names need it

    mapped = idna.uts46_remap(name, std3_rules=False)
    if len(mapped) > _LONGEST_NAME:
        raise ValueError("This name is too long.")
    given = mapped.split(".")
    labels = [_decoded(label) for label in given]
    for label in labels:
        if not label.isascii():
            _check(label)
    if any(bidirectional(char) in _RIGHT_TO_LEFT for label in labels for char in label):
        for label in filter(None, labels):
            idna.check_bidi(label, check_ltr=True)
    encoded = [_encoded(label) for label in labels]
    for before, after in zip(given, encoded, strict=True):
        if before.startswith(_PREFIX) and before != after:
            raise ValueError("There is another way to write this label.")
    return ".".join(encoded)


def _decoded(label: str) -> str:
    if not label.startswith(_PREFIX):
        return label
    text = label[len(_PREFIX) :].encode("ascii").decode("punycode")
    if text.isascii() or text.startswith(_PREFIX):
        raise ValueError("This label need not be encoded.")
    return text


def _check(label: str) -> None:
    """The validity criteria (UTS 46, section 4.1), without those that the standard leaves out."""
    import idna

    # Normalised, and of valid characters alone: neither changes, nor is refused.
    if len(label) > _LONGEST_LABEL or idna.uts46_remap(label, std3_rules=False) != label:
        raise ValueError("This label is not valid.")
    idna.check_initial_combiner(label)
    for place, char in enumerate(label):
        if char in _JOINERS and not idna.valid_contextj(label, place):
            raise ValueError("This label has a joiner where none may be.")


def _encoded(label: str) -> str:
    return label if label.isascii() else _PREFIX + label.encode("punycode").decode("ascii")
