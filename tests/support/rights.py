"""Commands as a user without a home directory, and as one whom file modes hold."""

import os

NO_SUCH_USER = 54_321
"""A user id, as containers have it, that is in no table of users."""


def without_home() -> list[str]:
    """Return the command under which another runs as a user whom the system does not know.

    The user may read all files, so that the interpreter can be anywhere, and writes as any stranger.
    """
    if os.geteuid() == 0:
        user = [f"--reuid={NO_SUCH_USER}", f"--regid={NO_SUCH_USER}", "--clear-groups"]
        return ["setpriv", *user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["unshare", "--user", f"--map-user={NO_SUCH_USER}", f"--map-group={NO_SUCH_USER}"]


def held_by_modes() -> list[str]:
    """Return the command under which another must keep to the modes of files, even if root runs the tests."""
    if os.geteuid() == 0:
        return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return []
