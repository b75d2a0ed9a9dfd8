/** A React component: who is online. Without JSX, so that it runs as it is. */

import {createElement} from "react";

import {usePresence, useSnapshot} from "./use-presence.js";

export function People({url, user}) {
  const {watcher} = usePresence(url, user);
  const {users, stale} = useSnapshot(watcher);
  const items = users.map(({userId, state}) => createElement("li", {key: userId}, `${userId}: ${state}`));
  return createElement("ul", {title: stale ? "as last seen" : "now"}, items);
}
