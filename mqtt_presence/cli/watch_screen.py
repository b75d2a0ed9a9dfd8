"""The screen of ``mqtt-presence watch`` on a terminal: a table that scrolls, with filter and order."""

import enum
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static

from mqtt_presence.cli.output import (
    STYLES,
    cell,
    format_duration,
    format_last_seen,
    format_short_time,
)
from mqtt_presence.cli.status_json import millis
from mqtt_presence.cli.user_filter import UserFilter
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import State

_COLUMNS = ("USER", "STATE", "SINCE", "FOR", "LAST SEEN", "CONNECTIONS")
_PRIVATE = ("ADDRESS", "USER AGENT")
_STATES = (None, State.ONLINE, State.IDLE, State.OFFLINE)
_RANK = {State.ONLINE: 0, State.IDLE: 1, State.OFFLINE: 2}
_LOOK_EVERY_S = 0.2
_LOOKS_PER_SECOND = 5
_MAX_ROWS = 1000
"""The rows that the table has at most; the filter finds the others."""


class Order(enum.Enum):
    """The order of the rows."""

    CHANGE = "newest change first"
    NAME = "by name"
    STATE = "by state"


class Watched(Protocol):
    """The part of a `StatusWatcher` that the screen reads."""

    @property
    def connected(self) -> bool: ...  # noqa: D102

    @property
    def bridge_connected(self) -> bool: ...  # noqa: D102

    @property
    def stale(self) -> bool: ...  # noqa: D102

    def snapshot(self) -> Mapping[str, UserStatus]: ...  # noqa: D102


def sorted_users(users: Mapping[str, UserStatus], order: Order) -> list[UserStatus]:
    """Return the users in an order; equal ones by name."""
    by_name = sorted(users.values(), key=lambda user: user.user_id)
    if order is Order.CHANGE:
        return sorted(by_name, key=lambda user: -(millis(user.since) or 0))
    if order is Order.STATE:
        return sorted(by_name, key=lambda user: _RANK[user.state])
    return by_name


class WatchScreen(App[None]):
    """The users, live, until a key or `stop` ends it.

    Args:
        watched: has the users.
        url: the broker's, shown without its password.
        chosen: the users to show at first.
        private: show addresses and user agents.

    """

    CSS = """
    #state, #count { height: 1; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #filter.shown { display: block; }
    DataTable { height: 1fr; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "Quit", priority=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "state", "State"),
        Binding("o", "order", "Order"),
        Binding("escape", "clear", "All users"),
    ]

    def __init__(self, watched: Watched, url: BrokerUrl, chosen: UserFilter, *, private: bool) -> None:
        super().__init__(ansi_color=True)
        self._watched = watched
        self._url = url
        self._at_first = chosen
        self._chosen = chosen
        self._columns = (*_COLUMNS, *(_PRIVATE if private else ()))
        self._is_private = private
        self._order = Order.CHANGE
        self._drawn: list[tuple[str, ...]] = []
        self._is_ending = False
        self._is_changed = True
        self._looks = 0

    def stop(self) -> None:
        """End the screen soon. May be called by a signal handler, or by another thread."""
        self._is_ending = True

    def changed(self) -> None:
        """Draw the users again soon. May be called by another thread."""
        self._is_changed = True

    def compose(self) -> ComposeResult:
        """Return the parts of the screen."""
        yield Static(id="state")
        yield Input(id="filter", placeholder="part of a name, or a pattern with * and ?", compact=True)
        yield DataTable(cursor_type="row", zebra_stripes=False)
        yield Static(id="count")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Draw, and look for changes from now on."""
        self.table.add_columns(*self._columns)
        self.table.focus()
        self._draw()
        self.set_interval(_LOOK_EVERY_S, self._look)

    @property
    def table(self) -> DataTable[Text]:
        """The table of the users."""
        return self.query_one(DataTable)

    # Keys

    def action_filter(self) -> None:
        """Show the field for a part of the name."""
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the text is written."""
        self._choose(self._chosen.containing(event.value))

    def on_input_submitted(self) -> None:
        """Return to the table; the filter stays."""
        self.table.focus()

    def action_state(self) -> None:
        """Show the next state only, and after the last one all states."""
        state = _STATES[(_STATES.index(self._chosen.state) + 1) % len(_STATES)]
        self._choose(UserFilter(state, self._chosen.pattern))

    def action_order(self) -> None:
        """Change the order of the rows."""
        orders = list(Order)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self._draw()

    def action_clear(self) -> None:
        """Show the users of the beginning again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("shown")
        self.table.focus()
        self._choose(self._at_first)

    def _choose(self, chosen: UserFilter) -> None:
        self._chosen = chosen
        self._draw()

    # Drawing

    def _look(self) -> None:
        if self._is_ending:
            self.exit()
            return
        self._looks += 1
        if self._is_changed or self._looks % _LOOKS_PER_SECOND == 0:  # durations change each second
            self._draw()

    def _draw(self) -> None:
        self._is_changed = False
        users = self._watched.snapshot()
        self.query_one("#state", Static).update(self._state_line(users))
        shown = [
            user for user in sorted_users(users, self._order) if self._chosen.takes(user.user_id, user.state)
        ]
        self._draw_rows([self._row(user) for user in shown[:_MAX_ROWS]])
        self.query_one("#count", Static).update(self._count_line(len(users), len(shown)))

    def _draw_rows(self, rows: list[tuple[Text, ...]]) -> None:
        """Update the cells that differ, so that the cursor and the scrolled position stay."""
        table = self.table
        for at, row in enumerate(rows):
            texts = tuple(f"{text.style}{text.plain}" for text in row)
            if at >= len(self._drawn):
                table.add_row(*row, key=str(at))
                self._drawn.append(texts)
                continue
            for column, text in enumerate(row):
                if texts[column] != self._drawn[at][column]:
                    table.update_cell_at((at, column), text, update_width=True)  # type: ignore[arg-type]
            self._drawn[at] = texts
        while len(self._drawn) > len(rows):
            self._drawn.pop()
            table.remove_row(str(len(self._drawn)))

    def _row(self, user: UserStatus) -> tuple[Text, ...]:
        since = millis(user.since)
        row = [
            cell(user.user_id, STYLES[user.state]),
            cell(user.state, STYLES[user.state]),
            cell(format_short_time(since)),
            cell("-" if since is None else format_duration(wall_clock() - since)),
            cell(format_last_seen(user.state, millis(user.last_seen), millis(user.last_activity))),
            cell(user.connections),
        ]
        if self._is_private:
            row.append(cell((user.last_login and user.last_login.ip_addr) or "-"))
            row.append(cell((user.last_login and user.last_login.user_agent) or "-"))
        return tuple(row)

    def _state_line(self, users: Mapping[str, UserStatus]) -> Text:
        line = cell(self._url, "bold")
        if not self._watched.connected:
            line.append("  connection lost, states may be outdated", "bold red")
        elif not self._watched.bridge_connected:
            line.append("  bridge offline, states may be outdated", "bold red")
        elif self._watched.stale:
            line.append("  catching up", "yellow")
        else:
            line.append("  bridge online", "green")
        counts = Counter(user.state for user in users.values())
        for state in State:
            line.append(f"  {counts[state]} {state}", STYLES[state])
        return line

    def _count_line(self, known: int, shown: int) -> Text:
        if not known:
            return cell("There are no users yet.")
        parts = [f"{shown} of {known} users" if shown < known else f"{known} users", self._order.value]
        if self._chosen.state is not None:
            parts.insert(1, f"{self._chosen.state} only")
        if shown > _MAX_ROWS:
            parts.append(f"the first {_MAX_ROWS}: press / to find others")
        return cell(", ".join(parts), "dim")
