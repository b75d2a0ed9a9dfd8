"""Names of the simulated users and clients, and the counts of a simulation."""

from dataclasses import dataclass

USER = "{user}"
"""The placeholder for the user's name in a password."""


@dataclass(frozen=True, slots=True)
class SimulatedNames:
    """The names and the password of the simulated users and clients.

    Args:
        name: the beginning of all user names and client ids.
        users: the number of users.
        connections: the number of clients of each user.
        password: of every user, with `USER` for the name; None for no password.

    """

    name: str
    users: int
    connections: int
    password: str | None = None

    def user(self, number: int) -> str:
        """Return the name of a user."""
        return f"{self.name}-{number}"

    def of_client(self, client: int) -> tuple[str, str]:
        """Return the user and the client id of a client of the plan."""
        user, number = divmod(client, self.connections)
        return self.user(user), f"{self.user(user)}-{number}"

    def password_of(self, user_id: str) -> str | None:
        """Return a user's password."""
        return None if self.password is None else self.password.replace(USER, user_id)


@dataclass(slots=True)
class Count:
    """The events of the simulation so far."""

    connected: int = 0
    """Open connections."""
    logins: int = 0
    logouts: int = 0
    cuts: int = 0
    messages: int = 0
    """Publications of clients that the broker has acknowledged."""
    lost: int = 0
    """Connections that ended against the plan."""
