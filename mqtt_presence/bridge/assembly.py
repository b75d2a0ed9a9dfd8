"""Assembly: builds a bridge of its parts, and fixes the order in which the loop calls them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from mqtt_presence.adapters.port import Adapter, Connected, Fleets
from mqtt_presence.adapters.registry import ADAPTERS, AUTO, MOSQUITTO, NONE
from mqtt_presence.bridge.batch import BatchCommit
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.counters import Counters, RefusalTotals
from mqtt_presence.bridge.deadline_checks import DeadlineChecks
from mqtt_presence.bridge.device_subscriptions import DeviceSubscriptions
from mqtt_presence.bridge.implicit_connections import ImplicitConnections
from mqtt_presence.bridge.implicit_identity import ImplicitIdentity
from mqtt_presence.bridge.intake import Intake
from mqtt_presence.bridge.limits import Limiter
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.link.node_connections import NodeConnections, name_of
from mqtt_presence.bridge.loop import Bridge
from mqtt_presence.bridge.message_rates import MessageRates
from mqtt_presence.bridge.monitoring.census import Census
from mqtt_presence.bridge.monitoring.health_topic import HealthTopic
from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.bridge.monitoring.vitals import Vitals
from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.bridge.notifications.notification_parts import NotificationParts
from mqtt_presence.bridge.outbox import LastStatus
from mqtt_presence.bridge.packet_id_journal import PacketIdJournal
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.pending_messages import PendingMessages
from mqtt_presence.bridge.presence_messages import PresenceMessages
from mqtt_presence.bridge.recovery.announcements import Announcements
from mqtt_presence.bridge.recovery.broker_losses import BrokerLosses
from mqtt_presence.bridge.recovery.client_list import ClientList
from mqtt_presence.bridge.recovery.clock_steps import ClockSteps
from mqtt_presence.bridge.recovery.database_losses import DatabaseLosses
from mqtt_presence.bridge.recovery.device_confirmations import DeviceConfirmations
from mqtt_presence.bridge.recovery.discovery_settings import DiscoverySettings
from mqtt_presence.bridge.recovery.forgotten_users import ForgottenUsers
from mqtt_presence.bridge.recovery.implicit_records import ImplicitRecords
from mqtt_presence.bridge.recovery.node_watch import NodeWatch
from mqtt_presence.bridge.recovery.other_seats import OtherSeats
from mqtt_presence.bridge.recovery.plugin_list import PluginList
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.bridge.recovery.retained_statuses import RetainedStatuses
from mqtt_presence.bridge.recovery.seat_removal import SeatRemoval
from mqtt_presence.bridge.recovery.stray_statuses import StrayStatuses
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.bridge.retention import ChangeLogRetention, Retention
from mqtt_presence.bridge.shared_counts import SharedCounts
from mqtt_presence.bridge.state_topic import StateTopic
from mqtt_presence.integrations.outputs import OUTPUTS, Outputs
from mqtt_presence.integrations.port import Output
from mqtt_presence.mqtt.broker_nodes import beginning_at
from mqtt_presence.protocol.topics import roots
from mqtt_presence.rules.model import ClientId, UserId
from mqtt_presence.store import Store, Transaction

AddressOf = Callable[[str, str], str | None]
"""Returns the address of a client, from its user id and client id; None: unknown."""
MakeLink = Callable[[LinkConfig, Callable[[], tuple[str, bytes]] | None], Link]


def bridge(
    config: BridgeConfig,
    store: Store,
    *,
    clock: Clock | None = None,
    address_of: AddressOf | None = None,
    adapters: Sequence[Adapter] = (),
    fleets: Sequence[Fleets] = (),
    outputs: Sequence[Output] = (),
    notifications: NotificationConfig | None = None,
    on_commit: Callable[[], None] = lambda: None,
    make_link: MakeLink = Link,
    monitor: Monitor | None = None,
) -> Bridge:
    """Build a bridge.

    Args:
        config: the configuration.
        store: the database; the bridge opens and closes it.
        clock: the authoritative clock; None: the machine's.
        address_of: where a broker in this process knows a client's address.
        adapters: read more topics than the registered adapters do.
        fleets: read the topics of devices.
        outputs: publish outcomes in more formats than the registered outputs do.
        notifications: the receivers of notifications; None: there are none.
        on_commit: called after statuses may have changed; returns at once.
        make_link: makes the link to the broker.
        monitor: reads the bridge from other threads.

    """
    return Assembly(
        config,
        store,
        clock=clock,
        address_of=address_of,
        adapters=adapters,
        fleets=fleets,
        outputs=outputs,
        notifications=notifications,
        on_commit=on_commit,
        make_link=make_link,
        monitor=monitor,
    ).bridge


def _link_config(link: LinkConfig, fleets: Sequence[Fleets], seat: int) -> LinkConfig:
    """Return the configuration with a first node by seat, and room for the largest packet of a fleet."""
    link = replace(link, nodes=beginning_at(link.nodes, seat))
    for fleet in fleets:
        link = replace(link, max_packet=max(link.max_packet, fleet.max_packet))
    return link


def _identity(config: BridgeConfig) -> ImplicitIdentity | None:
    """Return the names of implicit connections; None: nobody asks for them."""
    if config.implicit is None:
        return None
    user = config.link("").nodes[0].username
    return ImplicitIdentity(
        config.implicit.mode, config.implicit.match, frozenset() if user is None else frozenset({user})
    )


class Assembly:
    """The parts of one bridge, each under its name; see `bridge` for the arguments."""

    def __init__(
        self,
        config: BridgeConfig,
        store: Store,
        *,
        clock: Clock | None = None,
        address_of: AddressOf | None = None,
        adapters: Sequence[Adapter] = (),
        fleets: Sequence[Fleets] = (),
        outputs: Sequence[Output] = (),
        notifications: NotificationConfig | None = None,
        on_commit: Callable[[], None] = lambda: None,
        make_link: MakeLink = Link,
        monitor: Monitor | None = None,
    ) -> None:
        clock = clock or store.clock
        topics, tuning = config.topics, config.tuning
        self.counters = Counters()
        self.census = Census(store, clock)
        self.pending = PendingMessages(tuning)
        self.rates = MessageRates(config.limits, clock)
        self.limiter = Limiter(config.limits, self.rates)
        redeliveries = Redeliveries()
        self.journal = PacketIdJournal(redeliveries, tuning.kept_packet_ids)
        identity = _identity(config)
        source = NONE if config.seats > 1 else config.source
        self.connections = BrokerConnections(store, source, identity=identity, clock=clock)
        self.others = OtherSeats(store)
        self.database_losses = DatabaseLosses(
            store,
            topics,
            clock,
            lambda: self.retained.is_complete and self.announcements.is_complete and self.strays.is_complete,
        )
        self.state_topic = StateTopic(topics, clock, self.others, lambda: self.database_losses.shown)
        self.outputs = Outputs(
            [*(make(topics, config.publish_private) for make in OUTPUTS.values()), *outputs]
        )
        self.notifications = NotificationParts(notifications or NotificationConfig(), store, topics, clock)
        self.committer = Committer(
            store,
            topics,
            config.rules,
            self.limiter,
            self.counters,
            clock,
            self.outputs,
            self._on_clear,
            self.notifications.recorder,
            (self.census,),
            on_commit,
        )
        self.retained = RetainedStatuses(
            store,
            self.committer,
            topics,
            clock,
            self.outputs,
            self.others,
            again_s=tuning.republish_again_s,
            is_loss_normal=config.broker_starts_empty,
            is_cluster=len(config.link("").nodes) > 1,
        )
        self.strays = StrayStatuses(store, topics, clock, self.retained)
        self.progress = Progress(clock, topics, tuning.settled_s, store, self.others)
        self.clock_steps = ClockSteps(store, self.committer, clock, tuning.shifted_page)
        self.announcements = Announcements(
            store,
            self.committer,
            topics,
            self.journal,
            clock,
            self.clock_steps,
            self.progress,
            self.others,
            self.census,
            config.confirm_within_ms,
            tuning.announce_again_s,
        )
        self.device_confirmations = DeviceConfirmations(
            fleets, store, self.committer, clock, self.progress, config.confirm_within_ms
        )
        self.implicit_records = ImplicitRecords(
            self.connections,
            store,
            self.committer,
            clock,
            self.progress,
            config.confirm_within_ms,
            None if config.implicit is None else config.implicit.mode,
        )
        self.losses = BrokerLosses(
            store,
            clock,
            self.retained,
            self.announcements,
            self.progress,
            follows=config.source in {AUTO, MOSQUITTO},
            on_restart=self._broker_restarted,
        )
        self.forgotten = ForgottenUsers(store, self.outputs, clock, self._forget, self.committer)
        presence = PresenceMessages(
            topics,
            self.rates,
            self.counters,
            clock,
            self._network_of(address_of),
            self.pending,
            None if identity is None else self.connections.claim,
        )
        registered = (make() for make in ADAPTERS.values())
        self.intake = Intake(
            presence,
            self.connections,
            (*registered, *adapters),
            fleets,
            roots(topics.prefix),
            redeliveries,
            self.counters,
            clock,
            self.pending,
        )
        batches = BatchCommit(
            self.pending,
            self.committer,
            self.journal,
            (self.connections.new, self.forgotten),
            self.counters,
            tuning.max_batch,
        )
        self.vitals = Vitals(
            store,
            clock,
            self.progress,
            self.counters,
            self.pending.__len__,
            lambda: self.database_losses.is_repairing,
        )
        self.bridge = Bridge(
            store,
            lambda tx: make_link(
                _link_config(config.link(tx.client_id()), fleets, tx.seat),
                self.state_topic.will if tx.seat == 0 else None,
            ),
            clock,
            intake=self.intake,
            clock_steps=self.clock_steps,
            counters=self.counters,
            tuning=tuning,
            parts=(
                self.others,
                # Before all that publishes: it adds an output.
                DiscoverySettings(store, self.outputs, self.retained, config.homeassistant),
                self.committer,  # before the rest: it resolves an uncertain commit before anything is decided
                self.pending,
                self.intake,
                self.journal,
                NodeWatch(
                    [name_of(node) for node in config.link("").nodes],
                    store,
                    clock,
                    self.announcements,
                    self.retained.request,
                    lambda put: NodeConnections(config.link(""), put).close,
                ),
                self.announcements,  # before the batch: a request is stored before messages are acknowledged
                batches,
                # On connecting: the subscription to clients' messages goes first, because who sees the bridge
                # online relies on it. Then the online message, then the questions that its copy answers.
                self.progress,
                self.state_topic,
                self.database_losses,  # before all that publishes a health message
                self.strays,  # before the retained statuses, which unsubscribe from what they did not ask for
                self.retained,
                self.clock_steps,
                DeadlineChecks(self.committer, self.progress, self.clock_steps),
                self.forgotten,
                DeviceSubscriptions(fleets, store),
                self.device_confirmations,
                # Last on connecting: some brokers close the connection on subscriptions they do not grant.
                self.losses,
                self.connections,
                self.rates,
                *self._implicit(config, identity, clock),
                self.limiter,
                RefusalTotals(self.counters, store, clock),
                self.census,
                self.vitals,
                HealthTopic(
                    topics, clock, self.census, self.vitals, self.counters, lambda: self.database_losses.place
                ),
                Retention(store, clock, config.retention_ms),
                *self.notifications.parts(self.committer, self.progress),
                ChangeLogRetention(store, clock),
                SharedCounts(
                    store, clock, self.others, self.limiter, self.census, self.notifications.outages
                ),
                SeatRemoval(store, clock, self.progress, self.retained, tuning),  # last: it ends the bridge
            ),
        )
        (monitor or Monitor()).watch(
            self.bridge.request,
            self.vitals,
            self.others,
            self.census,
            self.counters,
            self.notifications.senders,
            self.database_losses,
        )

    def _implicit(
        self, config: BridgeConfig, identity: ImplicitIdentity | None, clock: Clock
    ) -> tuple[Part, ...]:
        implicit = config.implicit
        if implicit is None or identity is None:
            return (self.implicit_records,)
        plugin = PluginList(
            self.connections, self.implicit_records, self.committer, clock, self.progress, implicit.mode
        )
        return (
            ImplicitConnections(self.connections, identity, self.committer, clock, implicit.after_s),
            *self._client_list(implicit.read_list, clock),
            self.implicit_records,
            *((plugin,) if implicit.asks_plugin else ()),
        )

    def _client_list(self, read: Callable[[], Sequence[Connected]] | None, clock: Clock) -> tuple[Part, ...]:
        return () if read is None else (ClientList(self.connections, read, clock),)

    def _broker_restarted(self, has_lost_retained: bool) -> None:
        self.device_confirmations.broker_restarted(has_lost_retained)
        self.implicit_records.broker_restarted()

    def _on_clear(self, tx: Transaction, last_status: LastStatus | None) -> None:
        """Store, with the outbox, the newest publications that the broker is known to have."""
        self.state_topic.save(tx)
        self.retained.save_witness(tx, last_status)

    def _forget(self, tx: Transaction, user_ids: Collection[UserId]) -> None:
        for user_id in user_ids:
            self.retained.forget(tx, user_id)
        self.notifications.forget(tx, user_ids)
        self.limiter.restore(tx)

    def _network_of(
        self, address_of: AddressOf | None
    ) -> Callable[[UserId, ClientId], tuple[str | None, int | None]]:
        reported = self.connections.network_of
        if address_of is None:
            return reported

        def network_of(user_id: UserId, client_id: ClientId) -> tuple[str | None, int | None]:
            address, network_id = reported(user_id, client_id)
            return (address_of(user_id, client_id) if network_id is None else address), network_id

        return network_of
