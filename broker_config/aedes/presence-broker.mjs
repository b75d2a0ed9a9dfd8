// aedes as a broker for mqtt-presence: TCP, WebSocket, TLS, passwords, and rights tied to user and client id.
// MQTT 3.1.1; all is kept in memory. README.md beside this file says how to install and start it:
//   node presence-broker.mjs settings.json
//   node presence-broker.mjs hash < password       one line for users.json
import { Aedes } from 'aedes'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import { promisify } from 'node:util'

const BRIDGE = 'bridge'
const MAX_PAYLOAD = 65536 // bytes; presence needs 8 KiB
const VERBS = new Set(['login', 'activity', 'logout', 'will', 'time'])
const REFUSED_ID = 2
const REFUSED_PASSWORD = 4
const hash = promisify(scrypt)

if (process.argv[2] === 'hash') {
  // From standard input: a password on the command line could be read by everybody on the machine.
  const password = readFileSync(0, 'utf8').replace(/\r?\n$/, '')
  const salt = randomBytes(16)
  console.log(`${salt.toString('hex')}:${(await hash(password, salt, 32)).toString('hex')}`)
  process.exit()
}

const file = path.resolve(process.argv[2] ?? 'settings.json')
const beside = (name) => path.resolve(path.dirname(file), name)
const settings = JSON.parse(readFileSync(file, 'utf8'))
const prefix = settings.prefix ?? ''
const operators = new Set(settings.operators ?? [])
const users = new Map(Object.entries(JSON.parse(readFileSync(beside(settings.users), 'utf8'))))

// Sessions, with what waits in them, and retained messages end with the process. aedes-persistence-redis and
// -mongodb keep them; without one the bridge publishes all statuses again, and asks all clients to log in again.
const broker = await Aedes.createBroker()

// --- Who may come in ---

// What can be a level of a topic: nothing that would make two levels of one, or a wildcard.
const isName = (text) => typeof text === 'string' && text.length >= 1 && text.length <= 128 && !/[+#/\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u.test(text)

// One user's client id is no other's, for as long as there is a session: whoever could take it would end that
// client's connection, have its will published, and find its messages. The bridge's above all.
const owners = new Map()

const socketOf = (client) => client.req?.socket ?? client.conn

// With client certificates the user is the certificate's common name, whatever the client says.
const certified = (client) => settings.tls?.ca && socketOf(client).getPeerCertificate?.()?.subject?.CN

async function knows (user, password) {
  const [salt, known] = (users.get(user) ?? `${'0'.repeat(32)}:${'0'.repeat(64)}`).split(':').map((x) => Buffer.from(x, 'hex'))
  return timingSafeEqual(await hash(password ?? '', salt, known.length), known) && users.has(user)
}

broker.authenticate = (client, username, password, done) => {
  const refuse = (returnCode) => done(Object.assign(new Error('refused'), { returnCode }), false)
  const user = certified(client) || username
  const admit = (isRight) => {
    if (!isRight) return refuse(REFUSED_PASSWORD)
    if ((owners.get(client.id) ?? user) !== user) return refuse(REFUSED_ID)
    owners.set(client.id, user)
    client.user = user
    return done(null, true)
  }
  if (!isName(user) || !isName(client.id)) return refuse(REFUSED_ID)
  if (certified(client)) return admit(true)
  return knows(user, password).then(admit, () => refuse(REFUSED_PASSWORD))
}

broker.on('clientDisconnect', (client) => {
  // A persistent session stays, and so does its owner; one that was taken over is its successor's.
  if (client.clean && !(client.id in broker.clients)) owners.delete(client.id)
})

// --- What they may do ---

// With the bridge's setting "homeassistant": this user is Home Assistant. Its topics take no prefix.
const HOMEASSISTANT = 'homeassistant'
const DISCOVERY = /^homeassistant\/device\/[^/]+\/config$/

const levelsOf = (topic) => (topic.startsWith(prefix) ? topic.slice(prefix.length).split('/') : [])

function mayWrite (client, topic) {
  const [root, ...rest] = levelsOf(topic)
  if (client.user === HOMEASSISTANT) return topic === 'homeassistant/status'
  if (client.user === BRIDGE) {
    if (DISCOVERY.test(topic)) return true
    return { status: 1, bridge: 1, events: 2, reply: 3 }[root] === rest.length
  }
  const [user, id, verb] = rest
  return root === 'presence' && rest.length === 3 && user === client.user && id === client.id && VERBS.has(verb)
}

function mayRead (client, filter) {
  if (client.user === HOMEASSISTANT && filter.startsWith('homeassistant/')) return true
  const [root, ...rest] = levelsOf(filter)
  switch (root) {
    case 'status':
    case 'bridge':
      return true
    case 'reply':
      return rest[0] === client.user && rest[1] === client.id
    case 'events':
      return operators.has(client.user)
    case 'presence':
      return client.user === BRIDGE
    default:
      return false // '#' and '+/…' too; and $SYS, which here would swallow wills: aedes' notice overtakes them
  }
}

// Asked for wills as well, when they are published. An error closes the publisher's connection.
broker.authorizePublish = (client, packet, done) => {
  const isAllowed = client === null || (mayWrite(client, packet.topic) && packet.payload.length <= MAX_PAYLOAD)
  if (!isAllowed) console.log('denied: %j may not publish %d bytes to %j', client.user, packet.payload.length, packet.topic)
  done(isAllowed ? null : new Error('denied'))
}

// null: SUBACK says 0x80.
broker.authorizeSubscribe = (client, subscription, done) => done(null, mayRead(client, subscription.topic) ? subscription : null)

// --- Log ---

for (const event of ['clientReady', 'clientDisconnect', 'keepaliveTimeout']) {
  broker.on(event, (client) => {
    const { remoteAddress, remotePort } = socketOf(client)
    console.log('%s: %j of %j from %s:%d', event, client.id, client.user, remoteAddress, remotePort)
  })
}

// --- Listeners ---

const withWebSocket = (server) => {
  const sockets = new WebSocketServer({ server, path: '/mqtt', handleProtocols: (offered) => offered.has('mqtt') && 'mqtt' })
  sockets.on('connection', (socket, request) => broker.handle(createWebSocketStream(socket), request))
  return server
}
const withoutDelay = { noDelay: true } // else every answer waits for the acknowledgement of the one before

net.createServer(withoutDelay, broker.handle).listen(settings.port, settings.host)
withWebSocket(http.createServer(withoutDelay)).listen(settings.wsPort, settings.host)

if (settings.tls) {
  // { "port": 8883, "wssPort": 8884, "host": "::", "cert": …, "key": …, "ca": … }; with "ca", client certificates of
  // that authority count instead of passwords, and nobody comes in without one.
  const { port, wssPort, host, cert, key, ca } = settings.tls
  const options = {
    ...withoutDelay,
    cert: readFileSync(beside(cert)),
    key: readFileSync(beside(key)),
    ...(ca && { ca: readFileSync(beside(ca)), requestCert: true, rejectUnauthorized: true })
  }
  tls.createServer(options, broker.handle).listen(port, host)
  withWebSocket(https.createServer(options)).listen(wssPort, host)
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => broker.close(() => process.exit(0)))
