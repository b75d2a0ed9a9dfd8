"""The presence rules: pure functions from the events of one user to the user's new state.

Imports no other folder of the package.

Rules for editing this folder:

1. Everything here is pure: no clock, no random number, no input or output, no logging. The time is the `now`
   of an event, and the caller makes up connection ids (`fresh_id`).
2. Every event has an outcome in every state. A senseless message raises no exception: the outcome lists the
   reason in `ignored`.
3. docs/protocol.md, "Rules", is the specification. Its table, the second implementation in
   tests/model/naive.py and the functions here change together.

Theory of operation
-------------------

`fold.fold(user, events, settings)` applies events in their order and returns an `Outcome`:

1. The caller has loaded a `UserPresence`: the status, and the records that `needs` names.
2. `fold` opens a `Ledger` and passes it to one function for each event, chosen by the event's type. The
   function finds the record that the event means, checks the limits (`capacity`), and puts new versions of
   records into the ledger. `transitions` opens, reopens and closes records, with their events.
3. After each event the ledger computes the status again if a live record has changed. A change of the state
   adds the user's events.
4. The outcome lists the records to save, the events to publish, and the status under a new version if it
   changed. Several changes of the status in one call make one version.

A record is unseen, open or ended. An end is certain or guessed, and a sign of life takes back a guessed end:

    unseen --L1 A2 S1 I1--> open --E1 E2 G1 L1 L4 I1 (certain), B2 B3 I2 (guessed)--> ended
    ended, guessed --L3 A3 S3--> open
    ended, guessed --E1 G1--> ended, certain
    unseen --E1 L4--> ended, certain

| rules | event | module |
|---|---|---|
| L1 to L4 | `Login` | `logins` |
| A1 to A3 | `Activity` | `activity` |
| S1 to S3 | `Sighting` | `sightings` |
| E1, E2 | `End` | `ends` |
| G1, G2 | `NetworkClosed`, `NetworkReplaced` | `ends` |
| I1, I2 | `NetworkOpened`, `NetworkClaimed`, `ReportsLost` | `implicit` |
| B1, B2, grace | `CheckDeadlines` | `monitoring`, `deadlines` |
| B3 | `EndUnconfirmed` | `monitoring` |
| "A clock that is set back" | `ClockSteppedBack` | `monitoring` |
| publishing again | `Renew` | `fold` |
| the user's status | after each event | `status`, `ledger` |

Heartbeats that change only their own connection skip `fold`: `activity.settle_heartbeats` gives the same
result without the user's other records.
"""
