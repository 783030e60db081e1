"""Left and right: an ear, say, of the one side is the mirror image of one of the other."""

_OTHER = {"left": "right", "right": "left"}


def flips_of(side: str, template_side: str) -> tuple[bool, ...]:
    """Whether a scan is mirrored to be as the template is: known from the sides, or both ways.

    Args:
        side: that the scan is stated to show; empty where none is.
        template_side: of the template; where it has none, nothing is mirrored.
    """
    if not template_side:
        return (False,)
    return (side != template_side,) if side else (False, True)


def side_shown(template_side: str, *, mirrored: bool) -> str:
    """The side that a scan shows, mirrored or not; empty where the template's is not stated."""
    return _OTHER.get(template_side, "") if mirrored else template_side
