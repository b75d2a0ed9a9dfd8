/** React hooks for the npm package: a component is rendered again when the state of a client or watcher changes. */

import {useEffect, useMemo, useSyncExternalStore} from "react";
import {PresenceClient, StatusWatcher} from "mqtt-presence-client";

/** Return the present snapshot of a `PresenceClient` or `StatusWatcher`. */
export const useSnapshot = (observable) => useSyncExternalStore(observable.subscribe, observable.getSnapshot);

/** Keep a user online while the component is shown; return the client and a watcher over its connection. */
export function usePresence(url, user) {
  const presence = useMemo(() => {
    const client = new PresenceClient(url, {user});
    return {client, watcher: new StatusWatcher(client)};
  }, [url, user]);
  useEffect(() => {
    void presence.client.connect({wait: false});
    return () => void presence.client.disconnect();
  }, [presence]);
  return presence;
}
